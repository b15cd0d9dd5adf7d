package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Types of GGUF metadata (ggml, docs/gguf.md, enum gguf_metadata_value_type).
const (
	ggufU8 = iota
	ggufI8
	ggufU16
	ggufI16
	ggufU32
	ggufI32
	ggufF32
	ggufBool
	ggufString
	ggufArray
	ggufU64
	ggufI64
	ggufF64
)

// ggufSize is the size of a value of fixed size, 0 for others.
func ggufSize(kind uint32) int {
	switch kind {
	case ggufU8, ggufI8, ggufBool:
		return 1
	case ggufU16, ggufI16:
		return 2
	case ggufU32, ggufI32, ggufF32:
		return 4
	case ggufU64, ggufI64, ggufF64:
		return 8
	}
	return 0
}

// value reads one value of the metadata as text. Arrays and long strings are passed over, but for a tokenizer's: no network needs them.
func (r *ggufReader) value(key string) (string, error) {
	kind, err := r.u32()
	if err != nil {
		return "", err
	}
	switch kind {
	case ggufString:
		return r.text(key)
	case ggufArray:
		if name, ok := strings.CutPrefix(key, comfyShape); ok {
			return "", r.shape(name)
		}
		return "", r.array()
	}
	size := ggufSize(kind)
	if size == 0 {
		return "", fmt.Errorf("unknown type %d", kind)
	}
	b, err := r.next(uint64(size))
	if err != nil {
		return "", err
	}
	return ggufText(kind, b), nil
}

func (r *ggufReader) text(key string) (string, error) {
	n, err := r.u64()
	if err != nil {
		return "", err
	}
	b, err := r.next(n)
	switch {
	case err != nil:
		return "", err
	case key == GGUFVocab || key == GGUFMerges:
		r.long[key] = string(b)
		return "", nil
	case n > maxGGUFMetadata:
		return "", nil
	}
	return string(b), nil
}

// array passes over an array of numbers or strings.
func (r *ggufReader) array() error {
	kind, n, err := r.arrayHead()
	if err != nil {
		return err
	}
	if kind != ggufString {
		size := ggufSize(kind)
		if size == 0 {
			return fmt.Errorf("an array of type %d", kind)
		}
		if n > math.MaxInt64/8 {
			return fmt.Errorf("an array of %d values", n)
		}
		_, err := r.next(n * uint64(size))
		return err
	}
	for range n { // each takes at least eight bytes, so this ends with the header
		size, err := r.u64()
		if err != nil {
			return err
		}
		if _, err := r.next(size); err != nil {
			return err
		}
	}
	return nil
}

// arrayHead reads the type of an array's values and how many there are.
func (r *ggufReader) arrayHead() (kind uint32, n uint64, err error) {
	if kind, err = r.u32(); err == nil {
		n, err = r.u64()
	}
	return kind, n, err
}

// ggufText writes a value of fixed size.
func ggufText(kind uint32, b []byte) string {
	var wide [8]byte
	copy(wide[:], b)
	u := binary.LittleEndian.Uint64(wide[:])
	switch kind {
	case ggufI8:
		return strconv.Itoa(int(int8(u)))
	case ggufI16:
		return strconv.Itoa(int(int16(u)))
	case ggufI32:
		return strconv.Itoa(int(int32(u)))
	case ggufI64:
		return strconv.FormatInt(int64(u), 10)
	case ggufF32:
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(u))), 'g', -1, 32)
	case ggufF64:
		return strconv.FormatFloat(math.Float64frombits(u), 'g', -1, 64)
	case ggufBool:
		return strconv.FormatBool(u != 0)
	}
	return strconv.FormatUint(u, 10)
}
