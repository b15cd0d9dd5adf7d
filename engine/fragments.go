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

// FragmentLanes is how many invocations share a fragment.
const FragmentLanes = 32

// FragmentInvocations is how many invocations a workgroup of kernels with fragments has at most.
const FragmentInvocations = 256

// probeFragments finds out, once a device is open, whether its matrices place their elements as the kernels that read
// operands straight into registers expect. The specification leaves that to the driver, so it is tried.
func (d *Device) probeFragments(ctx context.Context) (Fragments, error) {
	if d.caps.MaxInvocations < FragmentInvocations {
		return NoFragments, nil
	}
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
