package weights

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// fetch reads the elements from one on into dst, which is a whole number of them: out of the file where there is one. Reading
// a file of the page cache is one copy by the system; through the mapping it is a fault for every few pages besides.
func (t Tensor) fetch(dst []byte, begin int) error {
	offset := t.DType.Bytes(begin)
	if t.file == nil {
		copy(dst, t.Data[offset:])
		return nil
	}
	if n, err := t.file.ReadAt(dst, t.at+int64(offset)); n < len(dst) {
		return fmt.Errorf("cannot be read (%w): the file was truncated or its disk failed", err)
	}
	return nil
}

// pieces are a tensor's elements a cacheful at a time, for one goroutine.
type pieces struct {
	t       Tensor
	scratch []byte // of a file's
}

func (t Tensor) pieces() *pieces { return &pieces{t: t} }

// bytes returns elements as they are stored, at most pieceElements; they are good until the next call.
func (p *pieces) bytes(begin, end int) ([]byte, error) {
	if p.t.file == nil {
		return p.t.part(begin, end), nil
	}
	if p.scratch == nil {
		p.scratch = make([]byte, p.t.DType.Bytes(min(pieceElements, p.t.Elements())))
	}
	s := p.scratch[:p.t.DType.Bytes(end-begin)]
	return s, p.t.fetch(s, begin)
}

// convertFinite writes elements as a type, and looks for values that are not finite. It never reads dst, which may be memory
// that is slow to read (write combined).
func (p *pieces) convertFinite(dst []byte, begin, end int, to DType) error {
	t := p.t
	src, err := p.bytes(begin, end)
	if err != nil || t.DType == F32 && to == BF16 && numeric.BF16FromF32Bytes(dst, src) {
		return err
	}
	if i := firstNonFinite(src, t.DType); i >= 0 {
		return notFinite(t, begin+i)
	}
	if t.DType == to {
		copy(dst, src)
		return nil
	}
	return convert(dst, src, t.DType, to)
}
