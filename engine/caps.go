package engine

import (
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// Tier names a family of kernels, from those that run anywhere to those that need the most of a device.
type Tier int

// Kernel tiers. Auto picks the highest that the device offers and the program has kernels for.
const (
	TierAuto    Tier = iota
	TierBase         // fp32 arithmetic, any Vulkan 1.2 device with 16-bit storage
	TierFP16         // fp16 products folded into fp32 sums (shaderFloat16)
	TierMatrix       // products of bf16 or fp16 matrices summed in fp32 (VK_KHR_cooperative_matrix)
	TierMatrix2      // the same by matrices of any size, some held by a whole workgroup (VK_NV_cooperative_matrix2)
)

func (t Tier) String() string { return [...]string{"auto", "base", "fp16", "matrix", "matrix2"}[t] }

// ParseTier reads a tier's name.
func ParseTier(s string) (Tier, error) {
	for t := TierAuto; t <= TierMatrix2; t++ {
		if strings.EqualFold(s, t.String()) {
			return t, nil
		}
	}
	return 0, fmt.Errorf("unknown kernel tier %q: use auto, base, fp16, matrix or matrix2", s)
}

// Caps are the limits and abilities that kernels choose by.
type Caps struct {
	Tier            Tier
	MaxStorageRange int64 // bytes of one binding
	StorageAlign    int64 // bytes, alignment of a binding's offset
	MaxAllocation   int64 // bytes of one tensor
	MaxSharedBytes  int64 // of one workgroup
	MaxInvocations  int   // of one workgroup
	MaxGroups       [3]uint32
	SubgroupSize    int
	HasFloat16      bool
	Matrix          MatrixCaps    // used from TierMatrix on
	Matrix2         Matrix2Caps   // used by TierMatrix2
	Fragments       Fragments     // how kernels may build matrices element by element
	ByteFragments   ByteFragments // the same of matrices of signed bytes, where Options.ByteFragments asked for it
	// MaxDispatchCost is the most floating-point operations one dispatch should do.
	MaxDispatchCost float64
}

// MaxDispatchCost bounds one dispatch to about half a second on a card of 400 GFLOP/s: Windows resets the driver
// after two seconds.
const MaxDispatchCost = 2e11

// MaxMatrixDispatchCost is the same bound for devices with matrix units, of which the slowest are at least ten times as
// fast: small dispatches would cost them more in submits than in work.
const MaxMatrixDispatchCost = 2e12

// ChooseTier picks the kernel tier for a device and says why.
func ChooseTier(p *vk.PhysicalDevice, forced Tier) (Tier, string, error) {
	f := p.Features
	if !f.Storage16 {
		return 0, "", fmt.Errorf("the device has no 16-bit storage buffers, which all kernels need")
	}
	if forced == TierFP16 && !f.Float16 {
		return 0, "", fmt.Errorf("kernel tier fp16 needs shaderFloat16, which the device does not have: use --kernels base")
	}
	matrix, missing := chooseMatrices(p)
	if forced >= TierMatrix && missing != "" {
		return 0, "", fmt.Errorf("kernel tier %v: %s: use --kernels auto", forced, missing)
	}
	matrix2, missing2 := chooseMatrices2(p)
	if forced == TierMatrix2 && missing2 != "" {
		return 0, "", fmt.Errorf("kernel tier matrix2: %s: use --kernels auto", missing2)
	}
	if forced != TierAuto {
		return forced, "asked for", nil
	}
	if missing == "" && missing2 == "" {
		return TierMatrix2, "VK_NV_cooperative_matrix2 has " + matrix2.String(), nil
	}
	if missing == "" {
		return TierMatrix, "VK_KHR_cooperative_matrix has " + matrix.String(), nil
	}
	if f.Float16 {
		return TierFP16, "shaderFloat16 is there", nil
	}
	return TierBase, "no shaderFloat16", nil
}
