package weights

import "io"

// WriteSample writes the file's head (eight bytes of length, and the JSON that describes every tensor) and up to n bytes
// from the middle of every tensor, in the order of their names. It reads little of a large file. A file that has shrunk
// since it was opened is an error.
func (f *File) WriteSample(w io.Writer, n int) error {
	return guarded(func() error {
		if _, err := w.Write(f.header); err != nil {
			return err
		}
		for _, name := range f.names {
			data := f.tensors[name].Data
			if len(data) > n {
				from := (len(data) - n) / 2
				data = data[from : from+n]
			}
			if _, err := w.Write(data); err != nil {
				return err
			}
		}
		return nil
	})
}
