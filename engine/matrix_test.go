package engine

import (
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/vk"
)

// Matrices of signed bytes are used where they are there, sum without saturation and the shader may have bytes; a device
// that has no others has none that the tier needs.
func TestMatricesOfBytes(t *testing.T) {
	bytes := func(m, n, k int, saturating bool) vk.Matrix {
		return vk.Matrix{M: m, N: n, K: k, A: "s8", B: "s8", C: "s32", R: "s32", Scope: "subgroup", Saturating: saturating}
	}
	p := matrixGPU()
	p.Features.Int8 = true
	p.Matrices = append(p.Matrices, bytes(16, 8, 32, false), bytes(16, 16, 32, false), bytes(32, 32, 32, true),
		vk.Matrix{M: 64, N: 64, K: 64, A: "u8", B: "u8", C: "s32", R: "s32", Scope: "subgroup"})
	m, missing := chooseMatrices(p)
	if want := (MatrixShape{16, 16, 32}); missing != "" || m.I8 != want || !strings.Contains(m.String(), "s8→s32 16×16×32") {
		t.Errorf("%v, %q, want bytes in %v", m, missing, want)
	}
	p.Features.Int8 = false
	if m, _ := chooseMatrices(p); m.I8 != (MatrixShape{}) {
		t.Errorf("without shaderInt8: %v", m)
	}
	p.Features.Int8 = true
	p.Matrices = p.Matrices[1:]
	if _, missing := chooseMatrices(p); missing == "" {
		t.Error("matrices of bytes alone are enough for tier matrix")
	}
}
