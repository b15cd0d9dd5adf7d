package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// TensorInfo declares a tensor to be written.
type TensorInfo struct {
	Name  string
	DType DType
	Shape []int
}

// Bytes is the size of the tensor's data.
func (i TensorInfo) Bytes() int64 {
	n, _ := byteSize(i.Shape, i.DType)
	return n
}

// Writer writes a safetensors or GGUF file from start to end, holding none of its data. The declared tensors come in a
// fixed order (Order). In safetensors that is wide element types first and by name within a type, so that each is aligned
// to its element size; the header is padded with spaces so that the data starts at a multiple of 8. In GGUF it is as
// declared, each at a multiple of 32. The same tensors, metadata and data give the same bytes.
//
// The file appears under its name only when Close has succeeded; before that, and after Abort, there is none.
// A Writer is for one goroutine.
type Writer struct {
	path    string
	tmp     *os.File
	order   []TensorInfo
	head    []byte
	total   int64 // bytes of all tensors
	written int64 // of these, by now
	align   int64 // tensors begin at multiples of it; 1 leaves no gaps
	tensor  int   // the one that is being written
	left    int64 // bytes of it that are to come
	copies  io.Writer
	kept    bool // the file is the caller's: Abort leaves it
	err     error
}

// Create starts a file of exactly the given tensors. Finish with Close or Abort.
func Create(path string, tensors []TensorInfo, metadata map[string]string) (*Writer, error) {
	w := newWriter(path, tensors)
	header, err := w.header(metadata)
	if err != nil {
		return nil, fmt.Errorf("weights: create %s: %w", path, err)
	}
	return w.start(header)
}

// start makes the temporary file.
func (w *Writer) start(header []byte) (_ *Writer, err error) {
	w.head, w.tensor, w.left = header, -1, 0
	w.tmp, err = os.CreateTemp(filepath.Dir(w.path), "."+filepath.Base(w.path)+".*.tmp")
	if err != nil {
		return nil, fmt.Errorf("weights: create %s: %w", w.path, err)
	}
	if _, err := w.tmp.Write(header); err != nil {
		return nil, errors.Join(fmt.Errorf("weights: write %s: %w", w.path, err), w.Abort())
	}
	return w, nil
}

// CopyTo also writes all bytes of the file, from its header on, to another writer, such as a checksum. It must come before
// the first Write.
func (w *Writer) CopyTo(other io.Writer) error {
	w.copies = other
	if w.tensor >= 0 {
		return nil // the other writer has had what Keep found
	}
	_, err := other.Write(w.head)
	return err
}

// newWriter puts the tensors in order.
func newWriter(path string, tensors []TensorInfo) *Writer {
	w := &Writer{path: path, order: slices.Clone(tensors), align: 1}
	sort.SliceStable(w.order, func(i, j int) bool {
		if a, b := w.order[i].DType.Size(), w.order[j].DType.Size(); a != b {
			return a > b
		}
		return w.order[i].Name < w.order[j].Name
	})
	return w
}

// header builds the length word and the padded JSON, and adds up the sizes.
func (w *Writer) header(metadata map[string]string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if len(metadata) > 0 {
		text, err := json.Marshal(metadata) // sorts its keys
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, `"__metadata__":%s`, text)
	}
	seen := map[string]bool{"__metadata__": true}
	for _, t := range w.order {
		n, ok := byteSize(t.Shape, t.DType)
		switch {
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %q declared twice, or by a reserved name", t.Name)
		case t.DType.Size() == 0 || len(t.Shape) > maxRank || slices.ContainsFunc(t.Shape, func(n int) bool { return n < 0 }):
			return nil, fmt.Errorf("tensor %q: no valid type or shape (%s %v)", t.Name, t.DType, t.Shape)
		case !ok || w.total > math.MaxInt64-n:
			return nil, fmt.Errorf("tensor %q: shape %v is too large", t.Name, t.Shape)
		}
		seen[t.Name] = true
		entry, err := json.Marshal(struct {
			DType   DType    `json:"dtype"`
			Shape   []int    `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, append([]int{}, t.Shape...), [2]int64{w.total, w.total + n}})
		if err != nil {
			return nil, err
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%s:%s", name, entry)
		w.total += n
	}
	b.WriteByte('}')
	b.WriteString(strings.Repeat(" ", (8-b.Len()%8)%8))
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("header of %d bytes is above the format's limit of %d", b.Len(), maxHeader)
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(b.Len())), b.Bytes()...), nil
}

// Order is the order in which the data must be written. The caller must not change the slice.
func (w *Writer) Order() []TensorInfo { return w.order }

// Write appends data. The tensors follow each other in Order without gaps; pieces need not end where tensors do.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.total-w.written {
		w.err = fmt.Errorf("weights: write %s: %d bytes more than the declared tensors hold", w.path, w.written+int64(len(p))-w.total)
		return 0, w.err
	}
	done := 0
	for done < len(p) {
		for w.left == 0 {
			w.tensor++
			w.left = w.order[w.tensor].Bytes()
		}
		n := min(int64(len(p)-done), w.left)
		w.put(p[done : done+int(n)])
		if w.left -= n; w.left == 0 {
			w.put(make([]byte, padding(w.order[w.tensor].Bytes(), w.align)))
		}
		if w.err != nil {
			return done, w.err
		}
		done += int(n)
		w.written += n
	}
	return done, nil
}

// put writes bytes as they are.
func (w *Writer) put(p []byte) {
	if w.err != nil || len(p) == 0 {
		return
	}
	_, err := w.tmp.Write(p)
	if err == nil && w.copies != nil {
		_, err = w.copies.Write(p)
	}
	if err != nil {
		w.err = fmt.Errorf("weights: write %s: %w", w.path, err)
	}
}

// padding is how many bytes are missing to a multiple.
func padding(n, align int64) int64 { return (align - n%align) % align }

// Sync waits until all that was written is on the disk.
func (w *Writer) Sync() error {
	if w.err == nil {
		if err := w.tmp.Sync(); err != nil {
			w.err = fmt.Errorf("weights: write %s: %w", w.path, err)
		}
	}
	return w.err
}

// Temporary is the path under which the file grows until Close.
func (w *Writer) Temporary() string { return w.tmp.Name() }

// Close finishes the file and gives it its name, replacing an older one. It fails, and leaves no file, when a write
// failed or data is missing. Only the first of Close and Abort does anything.
func (w *Writer) Close() error {
	if w.tmp == nil {
		return w.err
	}
	if w.err == nil && w.written != w.total {
		w.err = fmt.Errorf("weights: write %s: %d of %d bytes written", w.path, w.written, w.total)
	}
	if w.err != nil {
		return errors.Join(w.err, w.Abort())
	}
	name := w.tmp.Name()
	var err error
	if !w.kept {
		err = w.tmp.Chmod(0o644) // CreateTemp makes private files
	}
	err = errors.Join(err, w.tmp.Close())
	w.tmp = nil
	if err == nil {
		err = os.Rename(name, w.path)
	}
	if err != nil {
		w.err = errors.Join(fmt.Errorf("weights: write %s: %w", w.path, err), os.Remove(name))
	}
	return w.err
}

// Abort removes what was written, unless it was to be kept. After Close it does nothing.
func (w *Writer) Abort() error {
	if w.tmp == nil {
		return nil
	}
	name := w.tmp.Name()
	err := w.tmp.Close()
	if !w.kept {
		err = errors.Join(err, os.Remove(name))
	}
	w.tmp = nil
	if w.err == nil {
		w.err = fmt.Errorf("weights: write %s: aborted", w.path)
	}
	return err
}

// WriteFile writes tensors that are in memory (or mapped) as one file.
func WriteFile(path string, tensors []Tensor, metadata map[string]string) error {
	infos, byName, err := declare(tensors)
	if err != nil {
		return fmt.Errorf("weights: write %s: %w", path, err)
	}
	w, err := Create(path, infos, metadata)
	if err != nil {
		return err
	}
	for _, info := range w.Order() {
		if _, err := w.Write(byName[info.Name].Data); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	return w.Close()
}

// DataBytes is the size of all declared tensors together.
func (w *Writer) DataBytes() int64 { return w.total }

// Size is the length of the whole file.
func (w *Writer) Size() int64 {
	n := int64(len(w.head))
	for _, t := range w.order {
		n += t.Bytes() + padding(t.Bytes(), w.align)
	}
	return n
}

// SafetensorsBytes is the size of the file that Create makes of these tensors.
func SafetensorsBytes(tensors []TensorInfo, metadata map[string]string) (int64, error) {
	w := newWriter("", tensors)
	var err error
	if w.head, err = w.header(metadata); err != nil {
		return 0, fmt.Errorf("weights: %w", err)
	}
	return w.Size(), nil
}

// Encode writes tensors that are in memory as a safetensors file to anything that takes bytes.
func Encode(out io.Writer, tensors []Tensor, metadata map[string]string) error {
	infos, byName, err := declare(tensors)
	if err != nil {
		return err
	}
	w := newWriter("", infos)
	header, err := w.header(metadata)
	if err != nil {
		return err
	}
	if _, err := out.Write(header); err != nil {
		return err
	}
	for _, info := range w.order {
		if _, err := out.Write(byName[info.Name].Data); err != nil {
			return err
		}
	}
	return nil
}

// declare says what tensors there are, and finds them by their names.
func declare(tensors []Tensor) ([]TensorInfo, map[string]Tensor, error) {
	infos := make([]TensorInfo, len(tensors))
	byName := make(map[string]Tensor, len(tensors))
	for i, t := range tensors {
		infos[i] = TensorInfo{t.Name, t.DType, t.Shape}
		if want, ok := byteSize(t.Shape, t.DType); !ok || int64(len(t.Data)) != want {
			return nil, nil, fmt.Errorf("tensor %q %v %s has %d bytes, want %d", t.Name, t.Shape, t.DType, len(t.Data), want)
		}
		byName[t.Name] = t
	}
	return infos, byName, nil
}
