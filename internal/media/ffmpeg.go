package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// findFFmpeg returns an ffmpeg that can encode H.264, or "" and the reason there is none.
func findFFmpeg(ctx context.Context, program string) (path, why string) {
	if program == "" {
		program = "ffmpeg"
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Sprintf("no %s program found", program)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	list, err := exec.CommandContext(ctx, path, "-hide_banner", "-loglevel", "error", "-encoders").Output()
	if err != nil {
		return "", fmt.Sprintf("%s does not run: %v", path, err)
	}
	if !strings.Contains(string(list), " libx264 ") {
		return "", fmt.Sprintf("%s was built without libx264", path)
	}
	return path, ""
}

// h264Args returns ffmpeg's command line. The frames arrive converted and every tag is given for input and output
// alike, so that no version of ffmpeg sees a reason to convert them again.
func h264Args(target string, clip *Clip, fps, crf int) []string {
	tags := []string{"-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"}
	args := []string{"-hide_banner", "-loglevel", "error", "-nostdin", "-y",
		"-f", "rawvideo", "-pixel_format", "yuv420p",
		"-video_size", fmt.Sprintf("%dx%d", clip.Width, clip.Height), "-framerate", strconv.Itoa(fps)}
	args = append(args, tags...)
	args = append(args, "-i", "pipe:0", "-an", "-c:v", "libx264", "-crf", strconv.Itoa(crf), "-pix_fmt", "yuv420p")
	args = append(args, tags...)
	return append(args, "-chroma_sample_location", "left", "-movflags", "+faststart", "-f", "mp4", "file:"+target)
}

func writeH264(ctx context.Context, program, path string, clip *Clip, fps, crf int) error {
	out, err := createOutput(path)
	if err != nil {
		return err
	}
	defer out.discard()
	target := out.Name()
	if foreign := unreachable(target); foreign {
		scratch, err := os.MkdirTemp("", "vkandinsky")
		if err != nil {
			return fmt.Errorf("output %s: %w", path, err)
		}
		defer os.RemoveAll(scratch)
		target = filepath.Join(scratch, "video.mp4")
	}
	if err := runFFmpeg(ctx, program, h264Args(target, clip, fps, crf), clip); err != nil {
		return fmt.Errorf("output %s: %w", path, err)
	}
	if target != out.Name() {
		if err := copyInto(out.File, target); err != nil {
			return fmt.Errorf("output %s: %w", path, err)
		}
	}
	return out.commit()
}

// unreachable tells whether another program may fail to open the path: on Windows only programs that ask for it,
// as Go's do, can open paths of 260 characters and more.
func unreachable(path string) bool {
	abs, err := filepath.Abs(path)
	return runtime.GOOS == "windows" && err == nil && len(abs) >= 240
}

func copyInto(dst *os.File, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = io.Copy(dst, src)
	return err
}

// runFFmpeg pipes the frames through ffmpeg. When the context ends the process is killed.
func runFFmpeg(ctx context.Context, program string, args []string, clip *Clip) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 10 * time.Second
	var stderr tail
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	fed := feed(ctx, in, clip)
	closed := in.Close()
	ran := cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("stopped: %w", context.Cause(ctx))
	case ran != nil:
		return fmt.Errorf("ffmpeg failed (%w): %s", ran, stderr.String())
	}
	return errors.Join(fed, closed)
}

func feed(ctx context.Context, w io.Writer, clip *Clip) error {
	tables := newYUVTables(rgbToYCbCr(bt709Red, bt709Blue))
	planes := make([]uint8, clip.Height*clip.Width*3/2)
	for i := range clip.Frames {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		tables.yuv420(planes, clip.Frame(i))
		if _, err := w.Write(planes); err != nil {
			return err
		}
	}
	return nil
}

// tail keeps the end of what a program says.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const keep = 2048
	t.text = append(t.text, p...)
	if over := len(t.text) - keep; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

// String returns the last lines as one.
func (t *tail) String() string {
	lines := strings.FieldsFunc(string(t.text), func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 0 {
		return "it said nothing"
	}
	return strings.Join(lines[max(0, len(lines)-4):], "; ")
}
