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

	scaled  *quant.Table // of the codes with the scale of run at
	rounded *quant.TableBF16
	at      int
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

// values writes the values of the elements from at on; for records, at and the length are whole ones.
func (d *decoder) values(dst []float32, at int) {
	src := d.t.part(at, at+len(dst))
	run := d.t.Scales.Run
	switch {
	case d.t.taps > 0:
		d.tapValues(dst, at)
		return
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
			d.scale(k, scale)
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

// scale makes the tables of run k.
func (d *decoder) scale(k int, scale float32) {
	if d.at != k {
		d.scaled, d.rounded, d.at = d.table.Scaled(scale), nil, k
	}
}

// bf16 is values rounded to bfloat16. It returns false where a value may not be finite, for which values is the way to look.
func (d *decoder) bf16(dst []byte, at int) (finite bool) {
	elements := len(dst) / 2
	src, run := d.t.part(at, at+elements), d.t.Scales.Run
	switch {
	case d.t.taps > 0:
		return false
	case d.table == nil:
		return d.t.DType.Block().DecodeBF16(dst, src)
	case run == 0:
		return d.lookUp(dst, src)
	}
	for len(src) > 0 {
		k := at / run
		n := min(len(src), (k+1)*run-at)
		switch scale := d.t.Scales.at(k); {
		case run >= tableRun:
			d.scale(k, scale)
			finite = d.lookUp(dst[:2*n], src[:n])
		case d.t.DType == I8:
			finite = quant.Int8BF16(dst[:2*n], src[:n], scale)
		default:
			finite = false // short runs of fp8 are rare
		}
		if !finite {
			return false
		}
		dst, src, at = dst[2*n:], src[n:], at+n
	}
	return true
}

// lookUp decodes by the table of the current run.
func (d *decoder) lookUp(dst, src []byte) bool {
	if d.rounded == nil {
		d.rounded = d.scaled.BF16()
	}
	return d.rounded.Decode(dst, src)
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

// firstBroken is the index of the first NaN or infinity, or -1.
func firstBroken(values []float32) int {
	for i, f := range values {
		if f-f != 0 {
			return i
		}
	}
	return -1
}

// checkDecoded looks for NaN and infinities in what a run of a coded tensor's elements decodes to.
func (t Tensor) checkDecoded(begin, end int) error {
	d := t.decoder()
	scratch := make([]float32, scratchElements)
	for at := begin; at < end; at += len(scratch) {
		values := scratch[:min(len(scratch), end-at)]
		d.values(values, at)
		if i := firstBroken(values); i >= 0 {
			return notFinite(t, at+i)
		}
	}
	return nil
}

// decode converts a run of a coded tensor's elements, a cacheful at a time. A value that is not finite is an error.
func (t Tensor) decode(dst []byte, begin, end int, to DType) error {
	d := t.decoder()
	scratch := make([]float32, scratchElements)
	for at := begin; at < end; at += len(scratch) {
		values := scratch[:min(len(scratch), end-at)]
		out := dst[(at-begin)*to.Size():][:len(values)*to.Size()]
		if to == BF16 && d.bf16(out, at) {
			continue
		}
		d.values(values, at)
		if i := firstBroken(values); i >= 0 {
			return notFinite(t, at+i)
		}
		if err := narrow(out, values, to); err != nil {
			return err
		}
	}
	return nil
}

// Values writes the elements of a tensor of weights from one on, as float32. For types whose elements share a record, at and
// len(dst) must be whole records. A value that is not finite, and a file that cannot be read, is an error that names the
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
