package engine

import (
	"context"

	"github.com/vkandinsky/vkandinsky/shaders"
)

// Fragments says how kernels may build matrices element by element (shaders/include/fragments.glsl).
type Fragments int

// Ways of building matrices.
const (
	NoFragments       Fragments = iota
	MatrixFragments             // the device's bf16 matrices of 16×16×16 have their elements where the kernels expect them
	EmulatedFragments           // the same kernels with fp32 multiply-adds instead of matrices: for tests on devices without them
)

// ByteFragments says how kernels may build matrices of signed bytes (shaders/include/byte_fragments.glsl).
type ByteFragments struct {
	Kind Fragments // of 16×16×32, summed in 32-bit integers
	// Left and Right are the numberings of an operand's elements: elements 4g … 4g+3 are those of word Left >> 4g & 3.
	Left, Right uint32
}

// FragmentLanes is how many invocations share a fragment.
const FragmentLanes = 32

// probeFragments finds out, once a device is open, whether its matrices place their elements as the kernels that read
// operands straight into registers expect. The specification leaves that to the driver, so it is tried.
func (d *Device) probeFragments(ctx context.Context) (Fragments, error) {
	if d.opts.Limits.EmulateFragments {
		return EmulatedFragments, nil
	}
	if d.caps.Matrix.BF16 != (MatrixShape{16, 16, 16}) || d.caps.SubgroupSize != FragmentLanes {
		return NoFragments, nil
	}
	a := d.NewArena("fragment probe")
	defer a.Release()
	numbers, out := a.Alloc("numbers", F32, 256), a.Alloc("misplaced", U32, 1)
	if err := a.Err(); err != nil {
		return NoFragments, err
	}
	d.compute.Dispatch(Call{Shader: shaders.FragmentProbe, Bind: []Tensor{numbers, out}, Groups: [3]uint32{1, 1, 1}, Cost: 1, Label: "fragment probe"})
	wrong, err := d.DownloadU32(ctx, out)
	if err != nil {
		return NoFragments, err
	}
	if wrong[0] > 0 {
		d.log.Debug("matrices place their elements otherwise than expected", "misplaced", wrong[0])
		return NoFragments, nil
	}
	return MatrixFragments, nil
}

// probeByteFragments finds the same out about matrices of signed bytes, where Options.ByteFragments asks for it.
func (d *Device) probeByteFragments(ctx context.Context) (none ByteFragments, err error) {
	switch {
	case d.opts.Limits.EmulateFragments:
		return ByteFragments{Kind: EmulatedFragments}, nil
	case !d.opts.ByteFragments || d.caps.Fragments != MatrixFragments || d.caps.Matrix.I8 != (MatrixShape{16, 16, 32}):
		return none, nil
	}
	a := d.NewArena("fragment probe")
	defer a.Release()
	out := a.Alloc("found", U32, 3)
	if err := a.Err(); err != nil {
		return none, err
	}
	found := ByteFragments{Kind: MatrixFragments}
	for _, check := range []bool{false, true} {
		d.compute.Dispatch(Call{Shader: shaders.ByteFragmentProbe, Bind: []Tensor{out}, Groups: [3]uint32{1, 1, 1}, Cost: 1, Label: "fragment probe",
			Spec: shaders.ByteFragmentProbeSpec{LeftWords: found.Left, RightWords: found.Right, Check: check}.Values()})
		words, err := d.DownloadU32(ctx, out)
		if err != nil {
			return none, err
		}
		if words[0] > 0 {
			d.log.Debug("matrices of bytes place their elements otherwise than expected", "misplaced", words[0], "checked", check)
			return none, nil
		}
		found.Left, found.Right = words[1], words[2]
	}
	return found, nil
}
