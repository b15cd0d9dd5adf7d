package weights

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/quant"
)

// weightTypes is what error messages say may be a weight.
const weightTypes = "F32, F16, BF16, fp8, int8 with scales or a GGUF type"

// decoder gives the values of a coded tensor. It is for one goroutine.
type decoder struct {
	t     Tensor
	table *quant.Table // of the codes without scale; nil for records

	scaled *quant.Table // of the codes with the scale of run at
	at     int
}

func (t Tensor) decoder() *decoder {
	d := &decoder{t: t, at: -1}
	switch t.DType {
	case I8:
		d.table = quant.Int8()
	case F8E4M3:
		d.table = quant.E4M3()
	case F8E5M2:
		d.table = quant.E5M2()
	}
	if t.Scales.Run == 0 {
		d.scaled = d.table
	}
	return d
}

// tableRun is the number of elements from which on multiplying the table is less work than multiplying the elements.
const tableRun = 1024

// values writes the values of the elements from at on; for records, at and the length are multiples of 32.
func (d *decoder) values(dst []float32, at int) {
	src := d.t.part(at, at+len(dst))
	run := d.t.Scales.Run
	switch {
	case d.table == nil:
		d.t.DType.Block().Decode(dst, src)
		return
	case run == 0:
		d.scaled.Decode(dst, src)
		return
	}
	for len(dst) > 0 {
		k := at / run
		n := min(len(dst), (k+1)*run-at)
		switch scale := d.t.Scales.at(k); {
		case run >= tableRun:
			if d.at != k {
				d.scaled, d.at = d.table.Scaled(scale), k
			}
			d.scaled.Decode(dst[:n], src[:n])
		case d.t.DType == I8:
			decodeInt8(dst[:n], src[:n], scale)
		default:
			d.table.Decode(dst[:n], src[:n])
			for i := range dst[:n] {
				dst[i] *= scale
			}
		}
		dst, src, at = dst[n:], src[n:], at+n
	}
}

func decodeInt8(dst []float32, src []byte, scale float32) {
	for i, code := range src[:len(dst)] {
		dst[i] = float32(int8(code)) * scale
	}
}

// at is scale k.
func (s Scales) at(k int) float32 {
	switch s.DType {
	case F16:
		return numeric.F32FromF16(binary.LittleEndian.Uint16(s.Data[2*k:]))
	case BF16:
		return numeric.F32FromBF16(binary.LittleEndian.Uint16(s.Data[2*k:]))
	}
	return math.Float32frombits(binary.LittleEndian.Uint32(s.Data[4*k:]))
}

// eachDecoded calls use with the values of a run of a coded tensor's elements, a cacheful at a time.
func (t Tensor) eachDecoded(begin, end int, use func(at int, values []float32) error) error {
	d := t.decoder()
	scratch := make([]float32, scratchElements)
	for at := begin; at < end; at += len(scratch) {
		values := scratch[:min(len(scratch), end-at)]
		d.values(values, at)
		if err := use(at, values); err != nil {
			return err
		}
	}
	return nil
}

// checkDecoded looks for NaN and infinities in what a run of a coded tensor's elements decodes to.
func (t Tensor) checkDecoded(begin, end int) error {
	return t.eachDecoded(begin, end, func(at int, values []float32) error {
		if i := firstBroken(values); i >= 0 {
			return notFinite(t, at+i)
		}
		return nil
	})
}

// firstBroken is the index of the first NaN or infinity, or -1.
func firstBroken(values []float32) int {
	for i, f := range values {
		if f-f != 0 {
			return i
		}
	}
	return -1
}

// decode converts a run of a coded tensor's elements. A value that is not finite is an error.
func (t Tensor) decode(dst []byte, begin, end int, to DType) error {
	return t.eachDecoded(begin, end, func(at int, values []float32) error {
		out := dst[(at-begin)*to.Size():][:len(values)*to.Size()]
		if to == BF16 && numeric.BF16FromFiniteF32s(out, values) {
			return nil
		}
		if i := firstBroken(values); i >= 0 {
			return notFinite(t, at+i)
		}
		return narrow(out, values, to)
	})
}

// Values writes the elements of a tensor of weights from one on, as float32. For types whose elements share a record, at and
// len(dst) must be multiples of 32. A value that is not finite, and a file that cannot be read, is an error that names the
// tensor. One goroutine does it, so that callers can split the work.
func (t Tensor) Values(dst []float32, at int) error {
	if !t.IsWeight() {
		return t.errorf("element type is %s, want %s", t.DType, weightTypes)
	}
	err := guarded(func() error {
		if err := t.values(dst, at); err != nil {
			return err
		}
		if i := firstBroken(dst); i >= 0 {
			return notFinite(t, at+i)
		}
		return nil
	})
	if err != nil {
		return t.errorf("%w", err)
	}
	return nil
}

// values widens or decodes a run of elements of any tensor of weights.
func (t Tensor) values(dst []float32, at int) error {
	if t.coded() {
		t.decoder().values(dst, at)
		return nil
	}
	return widen(dst, t.part(at, at+len(dst)), t.DType)
}

// CopyInt8 copies the codes of an int8 tensor, and the scale of every run of so many elements as float32. It returns false,
// and copies nothing, when the tensor is not int8 or has scales for runs that are not whole ones of these. len(codes) must be
// the number of elements and len(scales) four for each run. Scales that are not finite are an error as in ConvertFinite.
func (t Tensor) CopyInt8(codes, scales []byte, run int) (bool, error) {
	if t.DType != I8 || t.Scales.Run == 0 || t.Scales.Run%run != 0 {
		return false, nil
	}
	if n := t.Elements(); len(codes) != n || n%run != 0 || len(scales) != n/run*4 {
		panic(fmt.Sprintf("weights.CopyInt8: buffers of %d and %d bytes for tensor %q %v with a scale for %d", len(codes), len(scales), t.Name, t.Shape, run))
	}
	if err := t.CopyTo(codes); err != nil {
		return false, err
	}
	err := guarded(func() error {
		for k := range len(scales) / 4 {
			s := t.Scales.at(k * run / t.Scales.Run)
			if s*128-s*128 != 0 {
				return notFinite(t, k*run)
			}
			binary.LittleEndian.PutUint32(scales[4*k:], math.Float32bits(s))
		}
		return nil
	})
	if err != nil {
		return false, t.errorf("%w", err)
	}
	return true, nil
}
