package weights

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrOtherFile is what Keep returns when the file that is there is not the beginning of the one to be written.
var ErrOtherFile = errors.New("not the beginning of this file")

// Keep makes the file grow at a path of the caller's instead of a temporary one. Abort leaves it there, and another Writer
// of the same tensors and metadata can go on: from is the number of tensors, in Order, that the file at this path holds whole;
// what lies behind them is cut off. 0 begins anew, whatever is there. It must come before CopyTo and the first Write; data
// for the tensor number from is expected next. After an error, which wraps ErrOtherFile when the file's header is another or
// data is missing, the Writer is as before.
func (w *Writer) Keep(path string, from int) error {
	flags := os.O_RDWR | os.O_CREATE
	if from == 0 {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return fmt.Errorf("weights: write %s: %w", w.path, err)
	}
	end, data := w.placeOf(from)
	if from == 0 {
		_, err = f.Write(w.head)
	} else if err = w.begins(f, end); err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("weights: write %s: %s: %w", w.path, path, err), f.Close())
	}
	old := w.tmp
	w.tmp, w.kept, w.tensor, w.left, w.written = f, true, from-1, 0, data
	return errors.Join(old.Close(), os.Remove(old.Name()))
}

// placeOf returns where a tensor begins, in bytes of the file and of the data without padding.
func (w *Writer) placeOf(tensor int) (end, data int64) {
	end = int64(len(w.head))
	for _, t := range w.order[:tensor] {
		data += t.Bytes()
		end += t.Bytes() + padding(t.Bytes(), w.align)
	}
	return end, data
}

// begins checks that a file has this header and so many bytes, and cuts off the rest.
func (w *Writer) begins(f *os.File, end int64) error {
	head := make([]byte, len(w.head))
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, w.head) {
		return ErrOtherFile
	}
	if info, err := f.Stat(); err != nil || info.Size() < end {
		return ErrOtherFile
	}
	return f.Truncate(end)
}

// Written is the size of the data that the file holds, without padding.
func (w *Writer) Written() int64 { return w.written }
