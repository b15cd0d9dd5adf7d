package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"
)

// GGUF is ggml's file format (ggml, docs/gguf.md): a header of key-value pairs and tensor descriptions, then the data, each
// tensor at a multiple of the alignment. Numbers are little-endian, axes fastest first.
const (
	ggufMagic   = "GGUF"
	ggufSuffix  = ".gguf"
	ggufAlign   = 32 // when the file names no other
	ggufVersion = 3
	// Bounds of what a header may hold, far above every published file.
	maxGGUFTensors  = 1 << 20
	maxGGUFValues   = 1 << 16
	maxGGUFName     = 1 << 10 // bytes of a tensor's name or a key
	maxGGUFMetadata = 1 << 12 // bytes of a string that Metadata keeps; longer ones (vocabularies) are passed over
	maxGGUFAlign    = 1 << 20
)

// ggmlType gives the number by which GGUF files know a type, and false for types that they do not have.
func ggmlType(d DType) (uint32, bool) {
	for _, g := range ggmlTypes() {
		if g.dtype == d {
			return g.id, true
		}
	}
	return 0, false
}

type ggmlID struct {
	id    uint32
	dtype DType
}

// ggmlTypes lists the types that are read (ggml, include/ggml.h, enum ggml_type).
func ggmlTypes() []ggmlID {
	return []ggmlID{{0, F32}, {1, F16}, {2, Q4_0}, {3, Q4_1}, {6, Q5_0}, {7, Q5_1}, {8, Q8_0}, {12, Q4_K}, {13, Q5_K}, {14, Q6_K}, {24, I8}, {25, I16}, {26, I32}, {27, I64}, {28, F64}, {30, BF16}}
}

// ggmlOther names types that files may have and that are not read.
func ggmlOther(id uint32) string {
	names := map[uint32]string{9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
		19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"}
	if name, ok := names[id]; ok {
		return name
	}
	return "number " + strconv.FormatUint(uint64(id), 10)
}

// parseGGUF checks the header of a whole GGUF file in memory and makes the views.
func parseGGUF(path string, data []byte) (*File, error) {
	r := ggufReader{data: data, at: len(ggufMagic), limit: min(len(data), maxHeader), long: map[string]string{}, shapes: map[string][]int{}}
	head, err := r.header()
	if err != nil {
		return nil, err
	}
	entries := make([]entry, head.tensors)
	for i := range entries {
		if entries[i], err = r.tensor(); err == nil {
			err = entries[i].reshape(r.shapes[entries[i].name])
		}
		if err != nil {
			return nil, fmt.Errorf("tensor %d of %d: %w", i+1, head.tensors, err)
		}
	}
	start := (int64(r.at) + head.align - 1) / head.align * head.align
	if len(entries) == 0 {
		start = min(start, int64(len(data)))
	}
	if start > int64(len(data)) {
		return nil, errors.New("the file ends before its data: truncated or damaged")
	}
	if err := checkPlaces(entries, int64(len(data))-start, head.align); err != nil {
		return nil, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	for i := 1; i < len(entries); i++ {
		if entries[i].name == entries[i-1].name {
			return nil, fmt.Errorf("header names %q twice", entries[i].name)
		}
	}
	f := newFile(path, data, start, entries, head.metadata)
	f.long = r.long
	return f, nil
}

// checkPlaces demands that tensors are aligned, do not overlap, and lie inside the data.
func checkPlaces(entries []entry, dataLen, align int64) error {
	var at int64
	for _, e := range inOrder(entries) {
		switch {
		case e.begin%align != 0:
			return fmt.Errorf("tensor %q starts at byte %d of the data, no multiple of the alignment %d", e.name, e.begin, align)
		case e.end > dataLen:
			return fmt.Errorf("tensor %q ends at byte %d of the data, which has only %d: file truncated or damaged", e.name, e.end, dataLen)
		case e.begin < at:
			return fmt.Errorf("tensor %q starts at byte %d of the data, inside the tensor before it", e.name, e.begin)
		}
		at = e.end
	}
	return nil
}

// ggufReader walks a header. Everything is bounded by what is left of the file before it is believed.
type ggufReader struct {
	data  []byte
	at    int
	limit int               // a header does not go beyond it
	long  map[string]string // texts of a tokenizer, by their keys
	// shapes are those of tensors that lie in another shape.
	shapes map[string][]int
}

type ggufHead struct {
	tensors  int
	align    int64
	metadata map[string]string
}

// header reads the counts and the key-value pairs.
func (r *ggufReader) header() (h ggufHead, err error) {
	version, err := r.u32()
	if err != nil {
		return h, err
	}
	if version != 2 && version != ggufVersion {
		if bits.ReverseBytes32(version) <= ggufVersion {
			return h, errors.New("a big-endian GGUF file: only little-endian ones are read")
		}
		return h, fmt.Errorf("GGUF version %d: only 2 and 3 are read", version)
	}
	tensors, err := r.count("tensors", maxGGUFTensors, 8+4+4+8)
	if err != nil {
		return h, err
	}
	values, err := r.count("key-value pairs", maxGGUFValues, 8+4+1)
	if err != nil {
		return h, err
	}
	h = ggufHead{tensors: tensors, align: ggufAlign, metadata: map[string]string{}}
	for range values {
		key, err := r.name("key")
		if err != nil {
			return h, err
		}
		if _, dup := h.metadata[key]; dup {
			return h, fmt.Errorf("metadata names %q twice", key)
		}
		text, err := r.value(key)
		if err != nil {
			return h, fmt.Errorf("metadata %q: %w", key, err)
		}
		h.metadata[key] = text
	}
	return h, h.check()
}

// check interprets the keys that say how the file is to be read.
func (h *ggufHead) check() error {
	if text, ok := h.metadata["general.alignment"]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 8 || n > maxGGUFAlign || n&(n-1) != 0 {
			return fmt.Errorf("general.alignment is %.20q, want a power of two from 8 to %d", text, maxGGUFAlign)
		}
		h.align = n
	}
	if text := h.metadata["split.count"]; text != "" && text != "0" && text != "1" {
		return fmt.Errorf("one of %.20s parts of a split file: merge them first", text)
	}
	return nil
}

// tensor reads one description. Its offsets count from the start of the data.
func (r *ggufReader) tensor() (e entry, err error) {
	if e.name, err = r.name("tensor"); err != nil {
		return e, err
	}
	axes, err := r.u32()
	if err == nil && axes > maxRank {
		err = fmt.Errorf("%q has %d axes, more than %d", e.name, axes, maxRank)
	}
	if err != nil {
		return e, err
	}
	for range axes {
		n, err := r.u64()
		if err == nil && n > math.MaxInt {
			err = fmt.Errorf("%q has an impossible extent %d", e.name, n)
		}
		if err != nil {
			return e, err
		}
		e.shape = append(e.shape, int(n))
	}
	slices.Reverse(e.shape)
	id, err := r.u32()
	if err != nil {
		return e, err
	}
	begin, err := r.u64()
	if err != nil {
		return e, err
	}
	return e, e.place(id, begin)
}

// place finds the type and the bytes of a tensor.
func (e *entry) place(id uint32, begin uint64) error {
	for _, g := range ggmlTypes() {
		if g.id == id {
			e.dtype = g.dtype
		}
	}
	if e.dtype == Invalid {
		return fmt.Errorf("%q has type %s, which is not read: use F32, F16, BF16, Q8_0, Q6_K, Q5_K, Q5_1, Q5_0, Q4_K, Q4_1 or Q4_0", e.name, ggmlOther(id))
	}
	size, ok := byteSize(e.shape, e.dtype)
	if !ok {
		return fmt.Errorf("%q: shape %v of %s overflows, or its rows do not fill records", e.name, e.shape, e.dtype)
	}
	if begin > uint64(math.MaxInt64-size) {
		return fmt.Errorf("%q starts at byte %d, beyond every file", e.name, begin)
	}
	e.begin, e.end = int64(begin), int64(begin)+size
	return nil
}

// next takes n bytes.
func (r *ggufReader) next(n uint64) ([]byte, error) {
	if n > uint64(r.limit-r.at) {
		if r.limit < len(r.data) {
			return nil, fmt.Errorf("header is above the limit of %d bytes", maxHeader)
		}
		return nil, errors.New("header ends in the middle: file truncated or damaged")
	}
	b := r.data[r.at : r.at+int(n)]
	r.at += int(n)
	return b, nil
}

func (r *ggufReader) u32() (uint32, error) {
	b, err := r.next(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (r *ggufReader) u64() (uint64, error) {
	b, err := r.next(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// count reads how many things of at least so many bytes follow.
func (r *ggufReader) count(what string, most, least int) (int, error) {
	n, err := r.u64()
	if err != nil {
		return 0, err
	}
	if n > uint64(most) || n > uint64((r.limit-r.at)/least) {
		return 0, fmt.Errorf("header counts %d %s, more than a file of %d bytes holds: truncated or damaged", n, what, len(r.data))
	}
	return int(n), nil
}

// name reads a short string.
func (r *ggufReader) name(what string) (string, error) {
	n, err := r.u64()
	if err != nil {
		return "", err
	}
	if n > maxGGUFName {
		return "", fmt.Errorf("the name of a %s has %d bytes, more than %d", what, n, maxGGUFName)
	}
	b, err := r.next(n)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("the name of a %s is not valid UTF-8", what)
	}
	return string(b), nil
}
