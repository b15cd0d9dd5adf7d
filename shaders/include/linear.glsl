// What matmul.comp and matmul_gemv.comp have in common: interface, epilogue and the place of a result.
//
//   y[m, n] = f(sum over k of x[m, k] w[n, k] + bias[n]), or y ← y + gate[n] · (x wᵀ + bias) with ADD
//
// x is [rows, K], w [cols, K], both row-major. y is addressed as [columns / head, height, head]: with head = number of
// columns that is a row-major matrix, with head = size of an attention head it is one matrix per head. With NF4 defined w is
// 4-bit, see nf4.glsl.

#include "tensor.glsl"
#include "activation.glsl"

layout(constant_id = 0) const uint X_TYPE = DTYPE_F32;
layout(constant_id = 1) const uint W_TYPE = DTYPE_F32;
layout(constant_id = 2) const uint BIAS_TYPE = DTYPE_F32;
layout(constant_id = 3) const uint Y_TYPE = DTYPE_F32;
layout(constant_id = 4) const bool VEC_K = false; // K is a multiple of 8; x and w start at multiples of 16 bytes
layout(constant_id = 5) const bool BIAS = false;
layout(constant_id = 6) const bool GATE = false;
layout(constant_id = 7) const bool ADD = false;
layout(constant_id = 8) const uint ACTIVATION = ACTIVATION_NONE;

layout(push_constant) uniform Push {
	uint rows;      // of x in this dispatch
	uint cols;      // rows of w in this dispatch
	uint k;
	uint head;      // columns of y that lie together
	uint height;    // rows of a head's matrix
	uint y_row;     // where in y's bound range the first row
	uint y_col;     // and the first column go
	uint bias_base; // elements before the first in the bound ranges
	uint gate_base;
	uint band;      // row tiles that are walked together (matmul_matrix.comp)
	uint w_first;   // with NF4: numbers before the first column of w, which is bound whole
	uint w_scales;  // and the words at which its scales
	uint w_codes;   // and codes begin
} pc;

TENSOR_IN_VEC(0, x, X_TYPE)
TENSOR_IN_VEC(1, w, W_TYPE)
TENSOR_IN(2, bias, BIAS_TYPE)
TENSOR_INOUT_VEC(3, y, Y_TYPE)
TENSOR_IN(4, gate, DTYPE_F32)
TENSOR_RUN8(x)
#ifdef NF4
#include "nf4.glsl"
#define WEIGHT_RUN8 nf4_run8
#else
TENSOR_RUN8(w)
#define WEIGHT_RUN8 w_run8
#endif

// finish applies everything after the sum to one element; old is what y held.
float finish(float v, uint col, float old) {
	if (BIAS) v += bias_load(pc.bias_base + col);
	if (ADD) return old + (GATE ? gate_load(pc.gate_base + col) * v : v);
	return activate(v, ACTIVATION);
}

uint y_index(uint row, uint col) {
	col += pc.y_col;
	return (col / pc.head * pc.height + pc.y_row + row) * pc.head + col % pc.head;
}

void finish_store(uint row, uint col, float v) {
	uint at = y_index(row, col);
	float old = 0.0;
	if (ADD) old = y_load(at);
	y_store(at, finish(v, col, old));
}
