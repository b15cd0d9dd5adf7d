package engine

import (
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// MatrixShape is a product of cooperative matrices, M×K by K×N. The zero value means that there is none.
type MatrixShape struct{ M, N, K int }

func (s MatrixShape) String() string { return fmt.Sprintf("%d×%d×%d", s.M, s.N, s.K) }

// MatrixCaps are the products of matrices that a subgroup computes together, by the operands' type: summed in fp32, those
// of signed bytes in 32-bit integers.
type MatrixCaps struct {
	BF16, F16, I8 MatrixShape
}

func (m MatrixCaps) String() string {
	var names []string
	if m.BF16 != (MatrixShape{}) {
		names = append(names, "bf16→f32 "+m.BF16.String())
	}
	if m.F16 != (MatrixShape{}) {
		names = append(names, "f16→f32 "+m.F16.String())
	}
	if m.I8 != (MatrixShape{}) {
		names = append(names, "s8→s32 "+m.I8.String())
	}
	return strings.Join(names, " and ")
}

// chooseMatrices picks the matrices that the kernels use, or says what the device lacks for them.
func chooseMatrices(p *vk.PhysicalDevice) (m MatrixCaps, missing string) {
	f := p.Features
	switch {
	case !f.CooperativeMatrix:
		return m, "the device has no VK_KHR_cooperative_matrix, or the validation layer is too old for it"
	case !f.MemoryModel || !f.FullSubgroups || !f.SubgroupMax || !f.Float16:
		return m, "cooperative matrices need vulkanMemoryModel, computeFullSubgroups, subgroup arithmetic and shaderFloat16 beside them"
	}
	m.F16 = largestMatrix(p.Matrices, "f16", "f32")
	if f.BFloat16 && f.BFloat16Matrix {
		m.BF16 = largestMatrix(p.Matrices, "bf16", "f32")
	}
	if f.Int8 {
		m.I8 = largestMatrix(p.Matrices, "s8", "s32")
	}
	if m.F16 == (MatrixShape{}) && m.BF16 == (MatrixShape{}) {
		return m, "the device's cooperative matrices multiply neither bf16 nor f16 into f32"
	}
	return m, ""
}

// largestMatrix returns the shape of most work whose sizes are multiples of 8, as the kernels' runs of 16 bytes are.
func largestMatrix(list []vk.Matrix, operand, sum string) (best MatrixShape) {
	for _, m := range list {
		fits := m.A == operand && m.B == operand && m.C == sum && m.R == sum && m.Scope == "subgroup" && !m.Saturating
		if fits && m.M%8 == 0 && m.N%8 == 0 && m.K%8 == 0 && m.M*m.N*m.K > best.M*best.N*best.K {
			best = MatrixShape{m.M, m.N, m.K}
		}
	}
	return best
}
