package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Names of the tensors in which bitsandbytes keeps what belongs to a 4-bit matrix (bitsandbytes, functional.py,
// QuantState.as_dict): they are those of the matrix with these endings.
const (
	stateSuffix  = ".quant_state.bitsandbytes__nf4"
	fp4Suffix    = ".quant_state.bitsandbytes__fp4"
	absmaxSuffix = ".absmax"
	codeSuffix   = ".quant_map"
	nestedSuffix = ".nested_absmax"
	mapSuffix    = ".nested_quant_map"
)

// nf4Suffixes are the endings of what belongs to a 4-bit matrix.
func nf4Suffixes() []string {
	return []string{stateSuffix, absmaxSuffix, codeSuffix, nestedSuffix, mapSuffix}
}

// maxState bounds the description of a 4-bit matrix, in bytes. Published ones have about 150.
const maxState = 4096

// NF4 is a matrix that lies in a checkpoint in bitsandbytes' 4-bit form.
type NF4 struct {
	Layout         nf4.Layout
	codes          Tensor
	scales, nested Tensor // nested is none where scales are fp32
	code, points   Tensor
	mean           float32
}

// quantState is the description that lies beside a 4-bit matrix, as JSON.
type quantState struct {
	Type        string   `json:"quant_type"`
	Block       int      `json:"blocksize"`
	DType       string   `json:"dtype"`
	Shape       []int    `json:"shape"`
	NestedBlock *int     `json:"nested_blocksize"`
	NestedDType string   `json:"nested_dtype"`
	Offset      *float32 `json:"nested_offset"`
}

// parseQuantState reads a description and refuses what this program cannot compute with.
func parseQuantState(data []byte) (s quantState, l nf4.Layout, err error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&s); err != nil {
		return s, l, errors.New("its description is no JSON object of the known form")
	}
	if _, err := dec.Token(); err != io.EOF {
		return s, l, errors.New("its description has more than one JSON value")
	}
	switch {
	case s.Type != "nf4":
		return s, l, fmt.Errorf("4-bit type %.20q: only nf4 is supported", s.Type)
	case s.Block != nf4.Block:
		return s, l, fmt.Errorf("blocks of %d numbers: only blocks of %d are supported", s.Block, nf4.Block)
	case !slices.Contains([]string{"bfloat16", "float16", "float32"}, s.DType):
		return s, l, fmt.Errorf("type %.20q before quantization: want bfloat16, float16 or float32", s.DType)
	case len(s.Shape) != 2 || s.Shape[0] < 1 || s.Shape[1] < 1 || s.Shape[0] > maxVocab || s.Shape[1] > maxVocab ||
		int64(s.Shape[0])*int64(s.Shape[1]) > math.MaxUint32:
		return s, l, fmt.Errorf("shape %.60s of the unpacked matrix", fmt.Sprint(s.Shape))
	}
	l = nf4.Layout{Rows: s.Shape[0], Cols: s.Shape[1], Plain: s.NestedBlock == nil && s.Offset == nil && s.NestedDType == ""}
	if l.Plain {
		return s, l, nil
	}
	switch {
	case s.NestedBlock == nil || *s.NestedBlock != nf4.NestedBlock:
		return s, l, fmt.Errorf("double quantization without blocks of %d scales", nf4.NestedBlock)
	case s.NestedDType != "float32":
		return s, l, fmt.Errorf("scales of type %.20q before double quantization: want float32", s.NestedDType)
	case s.Offset == nil || math.IsInf(float64(*s.Offset), 0) || math.IsNaN(float64(*s.Offset)):
		return s, l, errors.New("double quantization without the mean of the scales")
	}
	return s, l, nil
}

// NF4 returns the 4-bit matrix of that name, false where the tensor is held otherwise or not at all. The error names the
// file and the tensor when what belongs to a 4-bit matrix is missing or does not fit.
func (c *Checkpoint) NF4(name string) (q NF4, ok bool, err error) {
	t, ok := c.tensors[name]
	if !ok {
		return q, false, nil
	}
	if _, fp4 := c.tensors[name+fp4Suffix]; fp4 {
		return q, false, t.errorf("held in 4 bits of type fp4, which is not supported: use an nf4 checkpoint or the original one")
	}
	state, ok := c.tensors[name+stateSuffix]
	if !ok {
		return q, false, nil
	}
	if err := q.open(c, t, state); err != nil {
		return q, false, t.errorf("%w", err)
	}
	return q, true, nil
}

// open finds the parts and compares their sizes.
func (q *NF4) open(c *Checkpoint, t, state Tensor) error {
	if state.DType != U8 || len(state.Data) > maxState {
		return fmt.Errorf("its description is %s of %d bytes: want U8, at most %d", state.DType, len(state.Data), maxState)
	}
	text := make([]byte, len(state.Data))
	if err := state.CopyTo(text); err != nil {
		return err
	}
	s, l, err := parseQuantState(text)
	if err != nil {
		return err
	}
	q.Layout, q.codes = l, t
	if want := (l.Elements() + 1) / 2; len(t.Data) != want {
		return fmt.Errorf("%d bytes for %v in 4 bits: want %d", len(t.Data), s.Shape, want)
	}
	part := func(dst *Tensor, suffix string, dt DType, n int) {
		p, ok := c.tensors[t.Name+suffix]
		if !ok && err == nil {
			err = fmt.Errorf("held in 4 bits, but tensor %q is missing", t.Name+suffix)
		} else if err == nil && (p.DType != dt || p.Elements() != n) {
			err = fmt.Errorf("held in 4 bits, but %q is %s%v: want %d of %s", t.Name+suffix, p.DType, p.Shape, n, dt)
		}
		*dst = p
	}
	part(&q.code, codeSuffix, F32, 16)
	if l.Plain {
		part(&q.scales, absmaxSuffix, F32, l.Blocks())
		return err
	}
	q.mean = *s.Offset
	part(&q.scales, absmaxSuffix, U8, l.Blocks())
	part(&q.nested, nestedSuffix, F32, (l.Blocks()+nf4.NestedBlock-1)/nf4.NestedBlock)
	part(&q.points, mapSuffix, F32, 256)
	return err
}

// hidden is how many numbers matrices in 4 bits have beyond the elements of the tensors that hold them.
func (c *Checkpoint) hidden(names []string) (n int64) {
	for _, name := range names {
		q, ok, err := c.NF4(name)
		if !ok || err != nil {
			continue
		}
		n += int64(q.Layout.Elements() - q.codes.Elements())
		for _, suffix := range nf4Suffixes() {
			n -= int64(c.tensors[name+suffix].count())
		}
	}
	return n
}

// count is the number of elements, 0 for no tensor.
func (t Tensor) count() int {
	if t.DType == Invalid {
		return 0
	}
	return t.Elements()
}

// Shape is the matrix's own.
func (q NF4) Shape() []int { return []int{q.Layout.Rows, q.Layout.Cols} }

// Pack writes the matrix in the form that kernels read, of layout l: its own, or the same with fp32 scales. Scales, code
// points and map that are not finite are errors.
func (q NF4) Pack(dst []byte, l nf4.Layout) error {
	if l.Rows != q.Layout.Rows || l.Cols != q.Layout.Cols || q.Layout.Plain && !l.Plain || int64(len(dst)) != l.Bytes() {
		panic(fmt.Sprintf("weights.Pack: %d bytes of %v for %v", len(dst), l, q.Layout))
	}
	if err := q.tables(dst); err != nil {
		return err
	}
	if err := q.codes.CopyTo(l.Codes(dst)); err != nil {
		return err
	}
	if err := q.packScales(dst, l); err != nil {
		return err
	}
	l.ClearGaps(dst)
	return nil
}

// maxBF16 is the largest number of bf16.
const maxBF16 = 0x1.fep127

// CheckFinite is an error that names the tensor when scales, code points or map are not finite, or may make numbers that
// bf16 does not hold.
func (q NF4) CheckFinite() error {
	var failed error
	top := func(t Tensor) (v float64) {
		list, err := t.finite()
		if err != nil && failed == nil {
			failed = err
		}
		for _, x := range list {
			v = max(v, math.Abs(float64(x)))
		}
		return v
	}
	largest := top(q.code)
	if q.Layout.Plain {
		largest *= top(q.scales)
	} else {
		largest *= top(q.points)*top(q.nested) + math.Abs(float64(q.mean))
	}
	if failed == nil && !(largest <= maxBF16) {
		return q.codes.errorf("its scales make numbers of up to %g, more than bf16 holds", largest)
	}
	return failed
}

func (q NF4) tables(dst []byte) error {
	t := nf4.Tables{Mean: q.mean}
	code, err := q.code.finite()
	if err != nil {
		return err
	}
	copy(t.Code[:], code)
	if !q.Layout.Plain {
		points, err := q.points.finite()
		if err != nil {
			return err
		}
		copy(t.Map[:], points)
	}
	q.Layout.PutTables(dst, t)
	return nil
}

func (q NF4) packScales(dst []byte, l nf4.Layout) error {
	if q.Layout.Plain {
		return ConvertFinite(l.Scales(dst), q.scales, F32)
	}
	if !l.Plain {
		if err := ConvertFinite(l.NestedScales(dst), q.nested, F32); err != nil {
			return err
		}
		return q.scales.CopyTo(l.Scales(dst))
	}
	scales, err := q.scaleRange(0, l.Blocks())
	numeric.BytesFromF32s(l.Scales(dst), scales)
	return err
}

// scaleRange returns the scales of blocks from … to−1.
func (q NF4) scaleRange(from, to int) ([]float32, error) {
	if q.Layout.Plain {
		return q.scales.elements(from, to).finite()
	}
	out := make([]float32, to-from)
	points, err := q.points.finite()
	if err != nil {
		return out, err
	}
	first := from / nf4.NestedBlock
	nested, err := q.nested.elements(first, (to+nf4.NestedBlock-1)/nf4.NestedBlock).finite()
	if err != nil {
		return out, err
	}
	codes := make([]byte, to-from)
	if err := q.scales.elements(from, to).CopyTo(codes); err != nil {
		return out, err
	}
	for i, c := range codes {
		out[i] = float32(points[c]*nested[(from+i)/nf4.NestedBlock-first]) + q.mean
	}
	return out, nil
}

// elements is the run of elements from … to−1 as a tensor.
func (t Tensor) elements(from, to int) Tensor {
	t = t.run(from, to)
	t.Shape = []int{to - from}
	return t
}

// finite returns the numbers of a small F32 tensor.
func (t Tensor) finite() ([]float32, error) {
	raw := make([]byte, len(t.Data))
	if err := ConvertFinite(raw, t, F32); err != nil {
		return nil, err
	}
	out := make([]float32, len(raw)/4)
	numeric.F32sFromBytes(out, raw)
	return out, nil
}

// Values writes numbers from … from+count−1 of the matrix into dst as a type: F32, BF16 or F16. They are those in bf16.
func (q NF4) Values(dst []byte, from, count int, to DType) error {
	first, last := from/nf4.Block, (from+count+nf4.Block-1)/nf4.Block
	// The blocks that hold them are a matrix of their own.
	l := nf4.Layout{Rows: 1, Cols: min(last*nf4.Block, q.Layout.Elements()) - first*nf4.Block, Plain: true}
	packed := make([]byte, l.Bytes())
	if err := q.tables(packed); err != nil {
		return err
	}
	codes := q.codes
	codes.DType, codes.Shape = U8, []int{len(l.Codes(packed))}
	codes = codes.run(first*nf4.Block/2, first*nf4.Block/2+len(l.Codes(packed)))
	if err := codes.CopyTo(l.Codes(packed)); err != nil {
		return err
	}
	scales, err := q.scaleRange(first, last)
	if err != nil {
		return err
	}
	numeric.BytesFromF32s(l.Scales(packed), scales)
	all := Tensor{Name: q.codes.Name, File: q.codes.File, DType: BF16, Shape: []int{count}, Data: make([]byte, 2*count)}
	err = all.parallel(func(begin, end int) error {
		l.DequantizeBF16(all.Data[2*begin:2*end], packed, from-first*nf4.Block+begin)
		return nil
	})
	if err != nil {
		return err
	}
	return ConvertFinite(dst, all, to)
}

// inBF16 returns the elements at … stop−1 rounded to BF16, in scratch unless the tensor has that type.
func (t Tensor) inBF16(scratch []byte, at, stop int) ([]byte, error) {
	if t.coded() {
		scratch = scratch[:2*(stop-at)]
		return scratch, t.decode(scratch, at, stop, BF16)
	}
	s := t.part(at, stop)
	if i := firstNonFinite(s, t.DType); i >= 0 {
		return nil, notFinite(t, at+i)
	}
	if t.DType == BF16 {
		return s, nil
	}
	scratch = scratch[:2*(stop-at)]
	return scratch, convert(scratch, s, t.DType, BF16)
}

// QuantizeNF4 writes a matrix of weights (Tensor.IsWeight), rounded to BF16, in 4 bits. A NaN or infinity in it is the error of
// CheckFinite.
func QuantizeNF4(dst []byte, t Tensor, l nf4.Layout, q *nf4.Quantizer) error {
	if l.Elements() != t.Elements() || int64(len(dst)) != l.Bytes() {
		panic(fmt.Sprintf("weights.QuantizeNF4: %d bytes of %v for tensor %q %v", len(dst), l, t.Name, t.Shape))
	}
	if !t.IsWeight() {
		return t.errorf("cannot convert %s to 4 bits", t.DType)
	}
	scales := make([]float32, l.Blocks())
	codes := l.Codes(dst)
	err := t.parallel(func(begin, end int) error {
		var rounded []byte
		if t.DType != BF16 {
			rounded = make([]byte, 2*pieceElements)
		}
		for at := begin; at < end; at += pieceElements { // a multiple of the block
			stop := min(at+pieceElements, end)
			s, err := t.inBF16(rounded, at, stop)
			if err != nil {
				return err
			}
			q.Blocks(codes[at/2:], scales[at/nf4.Block:(stop+nf4.Block-1)/nf4.Block], s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	tables := nf4.Tables{Code: nf4.Code()}
	if l.Plain {
		numeric.BytesFromF32s(l.Scales(dst), scales)
	} else {
		tables.Map, tables.Mean = nf4.DynamicMap(), l.Nest(dst, scales)
	}
	l.PutTables(dst, tables)
	l.ClearGaps(dst)
	return nil
}
