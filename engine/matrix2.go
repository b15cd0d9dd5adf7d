package engine

import (
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// FlexibleMatrices are the products of VK_NV_cooperative_matrix2 with operands of one type and sums in fp32, whose sizes
// are any multiples of the granularity. They are held by a subgroup, or by a workgroup of so many invocations.
type FlexibleMatrices struct {
	Granularity MatrixShape
	Workgroup   int // invocations of the workgroup that holds a matrix; 0: a subgroup does
}

// Matrix2Caps are what a device offers of VK_NV_cooperative_matrix2. Flexible dimensions, reductions, conversions and
// per-element operations are always there; workgroup scope shows by what BF16 and F16 list. The zero value means that
// there is nothing.
type Matrix2Caps struct {
	BF16, F16    []FlexibleMatrices // by the operands' type, sums in fp32; one entry per scope and workgroup size
	MaxDimension int                // rows or columns of a matrix
	// TensorAddressing: matrices are loaded and stored by tensor layouts and views. BlockLoads: a function of the shader's
	// may decode what is loaded that way.
	TensorAddressing, BlockLoads bool
	// ReservedShared is the bytes of a workgroup's shared memory that matrices of workgroup scope take. What of the
	// rest matrices are staged through is the driver's choice.
	ReservedShared int64
}

// Find returns the granularity of matrices held by a workgroup of so many invocations, 0 for a subgroup, and false where
// a list of a Matrix2Caps has none.
func Find(list []FlexibleMatrices, workgroup int) (MatrixShape, bool) {
	for _, f := range list {
		if f.Workgroup == workgroup {
			return f.Granularity, true
		}
	}
	return MatrixShape{}, false
}

func (m Matrix2Caps) String() string {
	var parts []string
	add := func(name string, list []FlexibleMatrices) {
		var scopes []string
		for _, f := range list {
			scope := "subgroups"
			if f.Workgroup > 0 {
				scope = fmt.Sprintf("workgroups of %d", f.Workgroup)
			}
			scopes = append(scopes, fmt.Sprintf("%v by %s", f.Granularity, scope))
		}
		if scopes != nil {
			parts = append(parts, name+" multiples of "+strings.Join(scopes, ", "))
		}
	}
	add("bf16→f32", m.BF16)
	add("f16→f32", m.F16)
	return strings.Join(parts, " and ")
}

// chooseMatrices2 picks the flexible matrices that the kernels use, or says what the device lacks for them. The kernels
// of tier matrix stand in where a layer suits no kernel of this tier, so what those need is needed here too.
func chooseMatrices2(p *vk.PhysicalDevice) (m Matrix2Caps, missing string) {
	if _, missing := chooseMatrices(p); missing != "" {
		return m, missing
	}
	f := p.Features.Matrix2
	var lacks []string
	for _, part := range []struct {
		name string
		has  bool
	}{{"flexible dimensions", f.Flexible}, {"reductions", f.Reductions}, {"conversions", f.Conversions},
		{"per-element operations", f.PerElement}} {
		if !part.has {
			lacks = append(lacks, part.name)
		}
	}
	if len(lacks) > 0 {
		return m, "the device has no VK_NV_cooperative_matrix2 with " + strings.Join(lacks, ", ")
	}
	if !p.Features.SPIRV16 {
		return m, "VK_NV_cooperative_matrix2 needs vulkan 1.3 with maintenance4 beside it"
	}
	l := p.Limits
	m = Matrix2Caps{F16: flexibleMatrices(p, "f16"), MaxDimension: l.Matrix2MaxDimension,
		TensorAddressing: f.TensorAddressing, BlockLoads: f.BlockLoads, ReservedShared: l.Matrix2ReservedShared}
	if p.Features.BFloat16 && p.Features.BFloat16Matrix {
		m.BF16 = flexibleMatrices(p, "bf16")
	}
	if m.BF16 == nil && m.F16 == nil {
		return Matrix2Caps{}, "the device's flexible matrices multiply neither bf16 nor f16 into f32"
	}
	return m, ""
}

// flexibleMatrices lists the products of an operand type. Of several granularities for one scope it takes the finest.
func flexibleMatrices(p *vk.PhysicalDevice, operand string) (list []FlexibleMatrices) {
	for _, m := range p.Flexible {
		workgroup := 0
		if m.Scope == "workgroup" {
			workgroup = m.Invocations
		}
		fits := m.A == operand && m.B == operand && m.C == "f32" && m.R == "f32" && !m.Saturating && m.M > 0 && m.N > 0 && m.K > 0 &&
			(m.Scope == "subgroup" || p.Features.Matrix2.Workgroup && m.Scope == "workgroup" && workgroup > 0 &&
				workgroup <= min(p.Limits.Matrix2MaxWorkgroup, p.Limits.MaxInvocations))
		if !fits {
			continue
		}
		shape := MatrixShape{m.M, m.N, m.K}
		if old, ok := Find(list, workgroup); !ok {
			list = append(list, FlexibleMatrices{Granularity: shape, Workgroup: workgroup})
		} else if shape.M*shape.N*shape.K < old.M*old.N*old.K {
			for k := range list {
				if list[k].Workgroup == workgroup {
					list[k].Granularity = shape
				}
			}
		}
	}
	return list
}
