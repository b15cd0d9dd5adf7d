package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// GGUFValue is a key of a GGUF file's header with its value: a string, a uint32 or a float32.
type GGUFValue struct {
	Key   string
	Value any
}

// maxGGUFAxes and maxGGMLName are what ggml's tensors have at most (ggml, include/ggml.h, GGML_MAX_DIMS and GGML_MAX_NAME):
// axes, and bytes of a name. ggml refuses a file that goes beyond.
const (
	maxGGUFAxes = 4
	maxGGMLName = 63
)

// CreateGGUF starts a GGUF file (version 3) of exactly the given tensors, in this order. Finish with Close or Abort.
func CreateGGUF(path string, tensors []TensorInfo, metadata []GGUFValue) (*Writer, error) {
	w := &Writer{path: path, order: slices.Clone(tensors), align: ggufAlign}
	header, err := w.ggufHeader(metadata)
	if err != nil {
		return nil, fmt.Errorf("weights: create %s: %w", path, err)
	}
	return w.start(header)
}

// GGUFBytes is the size of the file that CreateGGUF makes of these tensors.
func GGUFBytes(tensors []TensorInfo, metadata []GGUFValue) (int64, error) {
	w := &Writer{order: slices.Clone(tensors), align: ggufAlign}
	var err error
	if w.head, err = w.ggufHeader(metadata); err != nil {
		return 0, fmt.Errorf("weights: %w", err)
	}
	return w.Size(), nil
}

func (w *Writer) ggufHeader(metadata []GGUFValue) ([]byte, error) {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(ggufMagic), ggufVersion)
	b = le.AppendUint64(b, uint64(len(w.order)))
	b = le.AppendUint64(b, uint64(len(metadata)))
	for _, v := range metadata {
		b = appendGGUFString(b, v.Key)
		switch value := v.Value.(type) {
		case string:
			b = appendGGUFString(le.AppendUint32(b, ggufString), value)
		case uint32:
			b = le.AppendUint32(le.AppendUint32(b, ggufU32), value)
		case float32:
			b = le.AppendUint32(le.AppendUint32(b, ggufF32), math.Float32bits(value))
		default:
			return nil, fmt.Errorf("metadata %q: a %T cannot be written", v.Key, v.Value)
		}
	}
	seen := map[string]bool{}
	var place int64
	for _, t := range w.order {
		id, ok := ggmlType(t.DType)
		n, fits := byteSize(t.Shape, t.DType)
		switch {
		case seen[t.Name]:
			return nil, fmt.Errorf("tensor %q declared twice", t.Name)
		case !ok:
			return nil, fmt.Errorf("tensor %q: GGUF has no type %s", t.Name, t.DType)
		case len(t.Shape) > maxGGUFAxes || len(t.Name) > maxGGMLName:
			return nil, fmt.Errorf("tensor %q: shape %v has more axes than ggml takes (%d), or its name more bytes (%d)", t.Name, t.Shape, maxGGUFAxes, maxGGMLName)
		case !fits || place > math.MaxInt64-n-ggufAlign:
			return nil, fmt.Errorf("tensor %q: shape %v is too large, or its rows do not fill records of %s", t.Name, t.Shape, t.DType)
		}
		seen[t.Name] = true
		b = le.AppendUint32(appendGGUFString(b, t.Name), uint32(len(t.Shape)))
		for _, extent := range slices.Backward(t.Shape) {
			b = le.AppendUint64(b, uint64(extent))
		}
		b = le.AppendUint64(le.AppendUint32(b, id), uint64(place))
		w.total += n
		place += n + padding(n, ggufAlign)
	}
	b = append(b, make([]byte, padding(int64(len(b)), ggufAlign))...)
	if len(b) > maxHeader {
		return nil, fmt.Errorf("header of %d bytes is above the limit of %d", len(b), maxHeader)
	}
	return b, nil
}

func appendGGUFString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}
