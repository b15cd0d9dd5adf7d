package media

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// output is a file that grows under a temporary name in the folder of its final one.
type output struct {
	*os.File
	path string
	done bool
}

// createOutput opens the temporary file. Whoever calls it defers discard and ends with commit.
func createOutput(path string) (*output, error) {
	f, err := os.OpenFile(tempBeside(path), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, fmt.Errorf("output %s: %w", path, err)
	}
	return &output{File: f, path: path}, nil
}

// tempBeside names a temporary file in a path's folder. The name does not grow with the path's own, which may be as
// long as the file system allows.
func tempBeside(path string) string {
	var random [6]byte
	rand.Read(random[:]) // never fails
	return filepath.Join(filepath.Dir(path), ".vkandinsky-"+hex.EncodeToString(random[:])+".part")
}

// commit closes the file and gives it its final name, replacing a file that has it.
func (o *output) commit() error {
	err := errors.Join(o.Sync(), o.Close())
	if err == nil {
		err = os.Rename(o.Name(), o.path)
	}
	if err != nil {
		return fmt.Errorf("output %s: %w", o.path, err)
	}
	o.done = true
	syncFolder(filepath.Dir(o.path))
	return nil
}

// syncFolder brings a folder's names to the disk, so that a file that was renamed has its name after a power cut too. Some
// systems and file systems cannot; the file itself is complete all the same.
func syncFolder(path string) {
	if f, err := os.Open(path); err == nil {
		_ = f.Sync()
		f.Close()
	}
}

// discard removes the temporary file unless it was committed.
func (o *output) discard() {
	if !o.done {
		o.Close()
		os.Remove(o.Name())
		o.done = true
	}
}

// WriteFile lets write fill a file that gets its name when it is complete, replacing one that has it. After an error nothing
// is left.
func WriteFile(path string, write func(w io.Writer) error) error {
	o, err := createOutput(path)
	if err != nil {
		return err
	}
	defer o.discard()
	if err := write(o); err != nil {
		return fmt.Errorf("output %s: %w", path, err)
	}
	return o.commit()
}

// Kinds of output, by extension.
const (
	kindMP4 = ".mp4"
	kindGIF = ".gif"
	kindPNG = ".png"
)

func kindOf(path string) (string, error) {
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case kindMP4, kindGIF, kindPNG:
		return ext, nil
	case "":
		return "", fmt.Errorf("output %s: the name needs an extension: .mp4, .gif or .png (one frame)", path)
	default:
		return "", fmt.Errorf("output %s: cannot write %s files; use .mp4, .gif or .png (one frame)", path, ext)
	}
}

// CheckOutput tells, before any work is done, whether WriteVideo will be able to write the path: the extension is
// known and a file can be made in its folder, which must exist.
func CheckOutput(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("output %s: is a folder: name a file in it, .mp4, .gif or .png (one frame)", path)
	}
	if _, err := kindOf(path); err != nil {
		return err
	}
	return CheckFile(path)
}

// CheckFile tells, before any work is done, whether WriteFile will be able to write the path: a file can be made in its
// folder, which must exist.
func CheckFile(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("output %s: is a folder", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output: %w", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("output %s: the folder %s does not exist", path, filepath.Dir(path))
	}
	o, err := createOutput(path)
	if err != nil {
		return err
	}
	o.discard()
	return nil
}
