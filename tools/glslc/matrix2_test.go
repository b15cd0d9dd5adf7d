package main

import (
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/shaders/spirv"
)

// matrixSource multiplies matrices held by a workgroup, straight out of memory.
const matrixSource = `#version 450
//@env vulkan1.3
//@variant product
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#extension GL_EXT_bfloat16 : require
layout(constant_id = 1) const int SCOPE = gl_ScopeWorkgroup;
layout(constant_id = 2) const uint TILE = 64;
layout(local_size_x_id = 3) in;
layout(local_size_x = 128) in;
layout(push_constant) uniform Push { uint n; } pc;
layout(set = 0, binding = 0) readonly buffer A { bfloat16_t a[]; };
layout(set = 0, binding = 1) writeonly buffer C { float c[]; };
#define SUM coopmat<float, SCOPE, TILE, TILE, gl_MatrixUseAccumulator>
float twice(const in uint row, const in uint col, const in float v) { return 2.0 * v; }
float larger(const in float u, const in float v) { return max(u, v); }
void main() {
	tensorLayoutNV<2> from = setTensorLayoutDimensionNV(createTensorLayoutNV(2), pc.n, pc.n);
	coopmat<bfloat16_t, SCOPE, TILE, TILE, gl_MatrixUseA> x;
	coopmat<bfloat16_t, SCOPE, TILE, TILE, gl_MatrixUseB> y;
	coopMatLoadTensorNV(x, a, 0, sliceTensorLayoutNV(from, 0, TILE, 0, TILE));
	coopMatLoadTensorNV(y, a, 0, sliceTensorLayoutNV(from, 0, TILE, 0, TILE), createTensorViewNV(2, false, 1, 0));
	SUM sum = coopMatMulAdd(x, y, SUM(0.0));
	coopMatPerElementNV(sum, sum, twice);
	SUM top;
	coopMatReduceNV(top, sum, gl_CooperativeMatrixReduceRowNV, larger);
	coopMatStoreTensorNV(sum - top, c, 0, sliceTensorLayoutNV(from, 0, TILE, 0, TILE));
}
`

func TestMatricesOfAWorkgroupCompileAndNameWhatTheyNeed(t *testing.T) {
	tree, out := newTree(t, map[string]string{"product.comp": matrixSource})
	if err := tree.build(t.Context(), nil, false); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	in, err := spirv.Reflect(get(t, filepath.Join(tree.dir, "spv", "product.spv")))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, c := range in.Capabilities {
		have[c] = true
	}
	for _, want := range []string{"BFloat16CooperativeMatrixKHR", "CooperativeMatrixKHR", "CooperativeMatrixPerElementOperationsNV",
		"CooperativeMatrixReductionsNV", "CooperativeMatrixTensorAddressingNV", "TensorAddressingNV"} {
		if !have[want] {
			t.Errorf("capabilities %v lack %s", in.Capabilities, want)
		}
	}
	if in.LocalSize != [3]uint32{128, 1, 1} || in.LocalSizeSpec != [3]int{3, -1, -1} {
		t.Errorf("workgroup %v by constants %v", in.LocalSize, in.LocalSizeSpec)
	}
	if len(in.Spec) != 3 || in.Spec[0].Type != spirv.Int32 || in.Spec[0].Default != 2 {
		t.Errorf("specialization constants %+v", in.Spec)
	}
}
