package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	mmap "github.com/edsrzf/mmap-go"
)

// File is an open safetensors or GGUF file. Its tensors are views into a read-only mapping; in bulk they are read from the file
// into the memory where they are wanted, which costs neither the faults of a mapping nor its address space.
type File struct {
	path     string
	size     int64
	tensors  map[string]Tensor
	names    []string
	metadata map[string]string
	long     map[string]string // texts of a tokenizer in a GGUF file
	header   []byte            // with the length before it

	mu      sync.Mutex
	mapping mmap.MMap
	close   func() error
	handle  *os.File    // nil for a file in memory
	opened  os.FileInfo // as the file was then
}

// Open maps a safetensors or GGUF file and checks its whole header; no tensor data is read. Which of the two it is
// its first bytes say. Errors name the file and, where one is at fault, the tensor.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("weights: open checkpoint: %w", err)
	}
	file, err := openMapped(path, f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("weights: %s: %w", path, err), f.Close())
	}
	return file, nil
}

func openMapped(path string, f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	// Checked before mapping because an empty file cannot be mapped.
	if info.Size() < 8 {
		return nil, fmt.Errorf("%d bytes are too few for a safetensors or GGUF file", info.Size())
	}
	mapping, err := mmap.Map(f, mmap.RDONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("map into memory: %w", err)
	}
	file, err := parse(path, mapping)
	if err != nil {
		return nil, errors.Join(err, mapping.Unmap())
	}
	file.mapping, file.close, file.handle, file.opened = mapping, f.Close, f, info
	for name, t := range file.tensors {
		t.file = f
		file.tensors[name] = t
	}
	return file, nil
}

// OpenBytes reads a safetensors or GGUF file held in memory, such as an embedded one; name stands in for the path in
// errors. The data must not change while the File is in use.
func OpenBytes(name string, data []byte) (*File, error) {
	file, err := parse(name, data)
	if err != nil {
		return nil, fmt.Errorf("weights: %s: %w", name, err)
	}
	return file, nil
}

// parse checks the header of a whole file in memory and makes the views.
func parse(path string, data []byte) (*File, error) {
	if bytes.HasPrefix(data, []byte(ggufMagic)) {
		return parseGGUF(path, data)
	}
	return parseSafetensors(path, data)
}

func parseSafetensors(path string, data []byte) (*File, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("%d bytes are too few for a safetensors file", len(data))
	}
	n := binary.LittleEndian.Uint64(data)
	if n > maxHeader {
		return nil, fmt.Errorf("header length %d is above the limit of %d bytes: not a safetensors file", n, maxHeader)
	}
	if n > uint64(len(data)-8) {
		return nil, fmt.Errorf("header of %d bytes does not fit in a file of %d: file truncated or damaged", n, len(data))
	}
	body := data[8+n:]
	entries, metadata, err := parseHeader(data[8:8+n], int64(len(body)))
	if err != nil {
		return nil, err
	}
	return newFile(path, data, int64(8+n), entries, metadata), nil
}

// newFile makes the views of tensors, which are sorted by name, in the data section, which starts at a byte of the whole file's
// data.
func newFile(path string, data []byte, start int64, entries []entry, metadata map[string]string) *File {
	body := data[start:]
	file := &File{
		path: path, size: int64(len(data)), metadata: metadata, header: data[:start:start],
		tensors: make(map[string]Tensor, len(entries)), names: make([]string, len(entries)),
	}
	for i, e := range entries {
		file.names[i] = e.name
		file.tensors[e.name] = Tensor{
			Name: e.name, DType: e.dtype, Shape: e.shape, Data: body[e.begin:e.end:e.end], File: path, at: start + e.begin,
		}
	}
	return file
}

// Path is the path the file was opened with.
func (f *File) Path() string { return f.path }

// Size is the length of the file in bytes.
func (f *File) Size() int64 { return f.size }

// Tensor returns the tensor of that name, or false.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, ok := f.tensors[name]
	return t, ok
}

// Names are the names of all tensors, sorted. The caller must not change the slice.
func (f *File) Names() []string { return f.names }

// Metadata is the file's own string map ("__metadata__", or the key-value pairs of a GGUF file as text, without arrays and
// long strings), nil when it has none. The caller must not change it.
func (f *File) Metadata() map[string]string { return f.metadata }

// Close unmaps the file; every view into it becomes invalid. A second call does nothing.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.close == nil {
		return nil
	}
	err := errors.Join(f.mapping.Unmap(), f.close())
	f.close = nil
	if err != nil {
		return fmt.Errorf("weights: close %s: %w", f.path, err)
	}
	return nil
}
