package media

import (
	"context"
	"errors"
	"fmt"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// WritePNG writes one picture.
func WritePNG(ctx context.Context, path string, im *Image) error {
	if ctx.Err() != nil {
		return fmt.Errorf("output %s: stopped: %w", path, context.Cause(ctx))
	}
	out, err := createOutput(path)
	if err != nil {
		return err
	}
	defer out.discard()
	if err := png.Encode(out, im.opaque()); err != nil {
		return fmt.Errorf("output %s: %w", path, err)
	}
	return out.commit()
}

// WriteFrames writes every frame as DIR/frame_00000.png and so on. The folder is made when missing; frames of an
// earlier run are replaced, those with higher numbers than this clip has removed. The frames appear together once
// all are written.
func WriteFrames(ctx context.Context, dir string, clip *Clip) error {
	if err := clip.check(); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("frames folder %s: is a file", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("frames folder: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return fmt.Errorf("frames folder: %w", err)
	}
	temp := tempBeside(dir)
	if err := os.Mkdir(temp, 0o777); err != nil {
		return fmt.Errorf("frames folder: %w", err)
	}
	defer os.RemoveAll(temp)
	if err := encodeFrames(ctx, temp, clip); err != nil {
		return err
	}
	if err := os.Rename(temp, dir); err == nil {
		return nil // the folder was not there, or empty where the system replaces an empty one
	}
	for i := range clip.Frames {
		if err := os.Rename(filepath.Join(temp, frameName(i)), filepath.Join(dir, frameName(i))); err != nil {
			return fmt.Errorf("frames folder: %w", err)
		}
	}
	for i := clip.Frames; ; i++ { // left by a longer run they would pass for the end of this one
		if err := os.Remove(filepath.Join(dir, frameName(i))); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return fmt.Errorf("frames folder: %w", err)
		}
	}
}

func frameName(i int) string { return fmt.Sprintf("frame_%05d.png", i) }

func encodeFrames(ctx context.Context, dir string, clip *Clip) error {
	var mu sync.Mutex
	var first error
	inParallel(clip.Frames, func(i int) {
		mu.Lock()
		failed := first != nil
		mu.Unlock()
		if failed {
			return
		}
		if err := WritePNG(ctx, filepath.Join(dir, frameName(i)), clip.Frame(i)); err != nil {
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
		}
	})
	return first
}
