package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// chunkBytes is how much data one goroutine takes at a time; a multiple of every element size.
const chunkBytes = 4 << 20

// scratchElements is the float32 buffer of a conversion between two 16-bit types; it stays in the first cache.
const scratchElements = 4096

// ConvertTo writes all elements of t into dst as type to. Between F32, F16 and BF16 it rounds to nearest even;
// any of these converts to itself by copying. Coded tensors are decoded in float32 and rounded; a scale, or a value, that
// is not finite is an error of CheckFinite. len(dst) must be exactly t.Elements()·to.Size(). A finite value that
// the target type cannot hold is an error, because it would become an infinity. Large tensors are converted by
// several goroutines at once.
func ConvertTo(dst []byte, t Tensor, to DType) error {
	if want := t.Elements() * to.Size(); len(dst) != want {
		panic(fmt.Sprintf("weights.ConvertTo: buffer of %d bytes for tensor %q %v as %s, want %d", len(dst), t.Name, t.Shape, to, want))
	}
	if t.DType == to && !t.coded() {
		return t.CopyTo(dst)
	}
	if !t.IsWeight() || !to.IsWeight() {
		return t.errorf("cannot convert %s to %s", t.DType, to)
	}
	return t.parallel(func(begin, end int) error {
		if t.coded() {
			return t.decode(dst[begin*to.Size():end*to.Size()], begin, end, to)
		}
		p := t.pieces()
		for at := begin; at < end; at += pieceElements {
			stop := min(at+pieceElements, end)
			src, err := p.bytes(at, stop)
			if err == nil {
				err = convert(dst[at*to.Size():stop*to.Size()], src, t.DType, to)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ConvertFinite is ConvertTo of a tensor that has not been looked through: a NaN or infinity in it is the error of
// CheckFinite. Every byte is read from memory once.
func ConvertFinite(dst []byte, t Tensor, to DType) error {
	if want := t.Elements() * to.Size(); len(dst) != want {
		panic(fmt.Sprintf("weights.ConvertFinite: buffer of %d bytes for tensor %q %v as %s, want %d", len(dst), t.Name, t.Shape, to, want))
	}
	if t.coded() {
		return ConvertTo(dst, t, to) // decoding looks at every value
	}
	if t.DType != to && (!t.DType.IsWeight() || !to.IsWeight()) {
		return t.errorf("cannot convert %s to %s", t.DType, to)
	}
	return t.parallel(func(begin, end int) error {
		p := t.pieces()
		for at := begin; at < end; at += pieceElements {
			stop := min(at+pieceElements, end)
			if err := p.convertFinite(dst[at*to.Size():stop*to.Size()], at, stop, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// pieceElements are looked at and converted while they are in a core's cache.
const pieceElements = 32 << 10

func notFinite(t Tensor, element int) error {
	return fmt.Errorf("element %d of shape %v is %w", element, t.Shape, ErrNotFinite)
}

// CopyTo copies the tensor's bytes into dst, which must have the same length.
func (t Tensor) CopyTo(dst []byte) error {
	if len(dst) != len(t.Data) {
		panic(fmt.Sprintf("weights.CopyTo: buffer of %d bytes for tensor %q of %d", len(dst), t.Name, len(t.Data)))
	}
	return t.parallel(func(begin, end int) error {
		return t.fetch(dst[t.DType.Bytes(begin):t.DType.Bytes(end)], begin)
	})
}

func convert(dst, src []byte, from, to DType) error {
	scratch := make([]float32, scratchElements)
	for len(src) > 0 {
		n := min(scratchElements, len(src)/from.Size())
		s, d, f := src[:n*from.Size()], dst[:n*to.Size()], scratch[:n]
		if err := widen(f, s, from); err != nil {
			return err
		}
		if err := narrow(d, f, to); err != nil {
			return err
		}
		src, dst = src[len(s):], dst[len(d):]
	}
	return nil
}

// narrow rounds values to a type. A finite one that does not fit is an error.
func narrow(dst []byte, src []float32, to DType) error {
	switch to {
	case F32:
		numeric.BytesFromF32s(dst, src)
	case F16:
		numeric.F16FromF32s(dst, src)
	case BF16:
		if numeric.BF16FromFiniteF32s(dst, src) {
			return nil
		}
		numeric.BF16FromF32s(dst, src)
	}
	if i := firstNonFinite(dst, to); i >= 0 {
		if j := firstOverflow(src, dst, to); j >= 0 {
			return fmt.Errorf("value %g does not fit %s", src[j], to)
		}
	}
	return nil
}

// firstOverflow is the index of the first finite source whose converted form is not finite, or -1.
func firstOverflow(src []float32, converted []byte, to DType) int {
	size := to.Size()
	for i, f := range src {
		if f-f == 0 && firstNonFinite(converted[i*size:(i+1)*size], to) == 0 {
			return i
		}
	}
	return -1
}

// ErrNotFinite is what errors about values in a checkpoint wrap.
var ErrNotFinite = errors.New("NaN or infinite")

// CheckFinite returns an error naming the tensor and the position of a NaN or infinity in it. Types without such
// values always pass. It reads every byte, with several goroutines, at about memory speed.
func (t Tensor) CheckFinite() error {
	if t.coded() {
		return t.parallel(t.checkDecoded)
	}
	if t.DType != F32 && t.DType != F16 && t.DType != BF16 && t.DType != F64 {
		return nil
	}
	return t.parallel(func(begin, end int) error {
		if i := firstNonFinite(t.part(begin, end), t.DType); i >= 0 {
			return notFinite(t, begin+i)
		}
		return nil
	})
}

// firstNonFinite is the index of the first element whose exponent bits are all ones, or -1.
func firstNonFinite(data []byte, d DType) int {
	switch d {
	case BF16:
		return firstAllOnes16(data, 0x7f80)
	case F16:
		return firstAllOnes16(data, 0x7c00)
	case F32:
		for i := 0; i+4 <= len(data); i += 4 {
			if binary.LittleEndian.Uint32(data[i:])&0x7f800000 == 0x7f800000 {
				return i / 4
			}
		}
	case F64:
		for i := 0; i+8 <= len(data); i += 8 {
			if f := math.Float64frombits(binary.LittleEndian.Uint64(data[i:])); f-f != 0 {
				return i / 8
			}
		}
	}
	return -1
}

// firstAllOnes16 finds the first 16-bit element with all bits of mask set, sixteen elements at a time: adding the
// mask's lowest bit to the masked exponent carries into the (cleared) sign bit exactly when all its bits are set.
func firstAllOnes16(data []byte, mask uint16) int {
	const lanes = 0x0001_0001_0001_0001
	masks, ones := uint64(mask)*lanes, uint64(mask&-mask)*lanes
	i := 0
	for ; i+32 <= len(data); i += 32 {
		d := data[i : i+32 : i+32]
		carry := binary.LittleEndian.Uint64(d)&masks + ones
		carry |= binary.LittleEndian.Uint64(d[8:])&masks + ones
		carry |= binary.LittleEndian.Uint64(d[16:])&masks + ones
		carry |= binary.LittleEndian.Uint64(d[24:])&masks + ones
		if carry&(0x8000*lanes) != 0 {
			break
		}
	}
	for ; i+2 <= len(data); i += 2 {
		if binary.LittleEndian.Uint16(data[i:])&mask == mask {
			return i / 2
		}
	}
	return -1
}

// parallel calls work on runs of elements that cover the tensor, on as many goroutines as there are processors.
// A page of the mapping that cannot be read (file shrunk, disk error) becomes an error. The error returned names
// the tensor; when several runs fail, which one is reported is the lowest.
func (t Tensor) parallel(work func(begin, end int) error) error {
	elements, step := t.Elements(), chunkBytes/max(t.DType.Size(), 1)
	if t.coded() {
		step = chunkBytes / 2 // decoding takes longer than reading
	}
	chunks := (elements + step - 1) / step
	errs := make([]error, chunks)
	if chunks <= 1 {
		for i := range chunks {
			errs[i] = guarded(func() error { return work(i*step, min((i+1)*step, elements)) })
		}
	} else {
		var group errgroup.Group
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i := range chunks {
			group.Go(func() error {
				errs[i] = guarded(func() error { return work(i*step, min((i+1)*step, elements)) })
				return errs[i]
			})
		}
		_ = group.Wait() // errs holds them all, in order
	}
	for _, err := range errs {
		if err != nil {
			return t.errorf("%w", err)
		}
	}
	return nil
}

// guarded turns a memory fault inside work into an error. Mapped files fault when they are truncated or when the
// disk fails; without this the program would die of a signal.
func guarded(work func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		fault, ok := r.(interface{ Addr() uintptr })
		if !ok {
			panic(r)
		}
		err = fmt.Errorf("cannot be read from its mapped file (address %#x): the file was truncated or its disk failed", fault.Addr())
	}()
	return work()
}
