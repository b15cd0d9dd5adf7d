// One tile of C = A Bᵀ in registers, shared by matmul.comp and conv3d.comp.
//
//   C[m, n] = sum over k < K of A[m, k] B[n, k]
//
// A workgroup computes TILE_M × TILE_N elements of C. It walks K in steps of TILE_K: all invocations load a slice of A
// and of B into shared memory, transposed so that k is the slow axis, then each multiplies its REG_M × REG_N elements out
// of them. (Fetching the next slice into registers meanwhile was measured on an H100: 15 % slower with f32 operands, no
// faster with bf16, for the registers it takes.)
//
// The kernel that includes this file defines how operands are found and where results go:
//
//   void gemm_load_a(uint row, uint k, out vec4 lo, out vec4 hi)   A[row, k…k+7], zero where there is nothing
//   void gemm_load_b(uint col, uint k, out vec4 lo, out vec4 hi)   B[col, k…k+7], zero where there is nothing
//   void gemm_store(uint row, uint col, vec4 v)                    C[row, col…col+3]; edges are the kernel's concern
//
// k is always a multiple of 8, col in gemm_store of 4. Each element of C is summed over k in ascending order by one
// invocation, so a result depends neither on the tile shape nor on how the rows and columns are cut into dispatches.
//
// With HALF defined, operands are held and multiplied in fp16, and every 8 products the fp16 partial sum is folded into
// the fp32 accumulator. So that fp16's range is never left where bf16's would not be, each run of 8 activations A[m, 8g…8g+7]
// is scaled by a power of two that brings its largest magnitude into [0.5, 1), and the fold multiplies that back. B
// is taken as it is: |B| <= 4096 keeps a partial sum below 8 · 4096 = 32768.
//
// Limits: TILE_K is a multiple of 8, REG_M and REG_N of 4; (TILE_M / REG_M) × (TILE_N / REG_N) invocations, which is the
// local size, can be divided into patches of 4 × 8 or, with TILE_N / REG_N = 4, of 8 × 4.
// Shared memory: 4 TILE_K (TILE_M + TILE_N + 8) bytes; half that plus TILE_M TILE_K / 2 bytes of scales with HALF.

#extension GL_EXT_control_flow_attributes : require
#ifdef HALF
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#endif

layout(constant_id = 20) const uint TILE_M = 64;
layout(constant_id = 21) const uint TILE_N = 64;
layout(constant_id = 22) const uint TILE_K = 16;
layout(constant_id = 23) const uint REG_M = 8;
layout(constant_id = 24) const uint REG_N = 4;
layout(local_size_x_id = 25) in;
layout(local_size_x = 128) in;

#ifdef HALF
#define GEMM_VEC4 f16vec4
#else
#define GEMM_VEC4 vec4
#endif

void gemm_load_a(uint row, uint k, out vec4 lo, out vec4 hi);
void gemm_load_b(uint col, uint k, out vec4 lo, out vec4 hi);
void gemm_store(uint row, uint col, vec4 v);

const uint GEMM_THREADS_M = TILE_M / REG_M;
const uint GEMM_THREADS_N = TILE_N / REG_N;
const uint GEMM_THREADS = GEMM_THREADS_M * GEMM_THREADS_N;
// 32 neighbours form a patch of 4 × 8 or 8 × 4, so that together they read little of shared memory.
const uint GEMM_PATCH_N = GEMM_THREADS_N % 8 == 0 ? 8 : 4;
const uint GEMM_PATCH_M = 32 / GEMM_PATCH_N;
const uint GEMM_FRAGS_M = REG_M / 4;
const uint GEMM_FRAGS_N = REG_N / 4;
const uint GEMM_RUNS = TILE_K / 8; // runs of 8 along k
// One vector of padding turns the neighbours that a store spreads over k away from one memory bank.
const uint GEMM_STRIDE_A = TILE_M / 4 + 1;
const uint GEMM_STRIDE_B = TILE_N / 4 + 1;
const uint GEMM_LOADS_A = (TILE_M * GEMM_RUNS + GEMM_THREADS - 1) / GEMM_THREADS;
const uint GEMM_LOADS_B = (TILE_N * GEMM_RUNS + GEMM_THREADS - 1) / GEMM_THREADS;

shared GEMM_VEC4 gemm_a[TILE_K * GEMM_STRIDE_A];
shared GEMM_VEC4 gemm_b[TILE_K * GEMM_STRIDE_B];
#ifdef HALF
shared vec4 gemm_scale[GEMM_RUNS * TILE_M / 4];
#endif

vec4 gemm_acc[REG_M * GEMM_FRAGS_N];

#ifdef HALF
// gemm_rescale brings the largest of eight magnitudes into [0.5, 1) and returns what undoes that. Infinities and NaN
// stay what they are.
float gemm_rescale(inout vec4 lo, inout vec4 hi) {
	vec4 top = max(abs(lo), abs(hi));
	uint e = floatBitsToUint(max(max(top.x, top.y), max(top.z, top.w))) >> 23;
	e = clamp(e, 1u, 252u); // both powers stay normal numbers; what overflows above 2^127 would in fp32, too
	float down = uintBitsToFloat((253u - e) << 23); // 2^(126 - e)
	lo *= down;
	hi *= down;
	return uintBitsToFloat((e + 1u) << 23);
}
#endif

// gemm_slice brings one slice of A and B to shared memory.
void gemm_slice(uint m0, uint n0, uint k0) {
	[[unroll]] for (uint i = 0; i < GEMM_LOADS_A; i++) {
		uint u = gl_LocalInvocationIndex + i * GEMM_THREADS;
		if (u < TILE_M * GEMM_RUNS) {
			uint row = u / GEMM_RUNS, run = u % GEMM_RUNS;
			vec4 lo, hi;
			gemm_load_a(m0 + row, k0 + run * 8, lo, hi);
#ifdef HALF
			gemm_scale[run * (TILE_M / 4) + row / 4][row & 3] = gemm_rescale(lo, hi);
#endif
			GEMM_VEC4 l = GEMM_VEC4(lo), h = GEMM_VEC4(hi);
			uint at = run * 8 * GEMM_STRIDE_A + row / 4;
			[[unroll]] for (uint j = 0; j < 4; j++) {
				gemm_a[at + j * GEMM_STRIDE_A][row & 3] = l[j];
				gemm_a[at + (j + 4) * GEMM_STRIDE_A][row & 3] = h[j];
			}
		}
	}
	[[unroll]] for (uint i = 0; i < GEMM_LOADS_B; i++) {
		uint u = gl_LocalInvocationIndex + i * GEMM_THREADS;
		if (u < TILE_N * GEMM_RUNS) {
			uint col = u / GEMM_RUNS, run = u % GEMM_RUNS;
			vec4 lo, hi;
			gemm_load_b(n0 + col, k0 + run * 8, lo, hi);
			GEMM_VEC4 l = GEMM_VEC4(lo), h = GEMM_VEC4(hi);
			uint at = run * 8 * GEMM_STRIDE_B + col / 4;
			[[unroll]] for (uint j = 0; j < 4; j++) {
				gemm_b[at + j * GEMM_STRIDE_B][col & 3] = l[j];
				gemm_b[at + (j + 4) * GEMM_STRIDE_B][col & 3] = h[j];
			}
		}
	}
}

// gemm_multiply adds the slice in shared memory to the accumulators.
void gemm_multiply(uint tm, uint tn) {
	for (uint run = 0; run < GEMM_RUNS; run++) {
#ifdef HALF
		f16vec4 part[REG_M * GEMM_FRAGS_N];
		[[unroll]] for (uint i = 0; i < REG_M * GEMM_FRAGS_N; i++) part[i] = f16vec4(0.0);
#endif
		[[unroll]] for (uint j = 0; j < 8; j++) {
			uint k = run * 8 + j;
			GEMM_VEC4 b[GEMM_FRAGS_N];
			[[unroll]] for (uint f = 0; f < GEMM_FRAGS_N; f++) b[f] = gemm_b[k * GEMM_STRIDE_B + f * GEMM_THREADS_N + tn];
			[[unroll]] for (uint r = 0; r < GEMM_FRAGS_M; r++) {
				GEMM_VEC4 a = gemm_a[k * GEMM_STRIDE_A + r * GEMM_THREADS_M + tm];
				[[unroll]] for (uint c = 0; c < 4; c++) {
					[[unroll]] for (uint f = 0; f < GEMM_FRAGS_N; f++) {
						uint at = (r * 4 + c) * GEMM_FRAGS_N + f;
#ifdef HALF
						part[at] = fma(f16vec4(a[c]), b[f], part[at]);
#else
						gemm_acc[at] += a[c] * b[f];
#endif
					}
				}
			}
		}
#ifdef HALF
		[[unroll]] for (uint r = 0; r < GEMM_FRAGS_M; r++) {
			vec4 up = gemm_scale[run * (TILE_M / 4) + r * GEMM_THREADS_M + tm];
			[[unroll]] for (uint c = 0; c < 4; c++) {
				[[unroll]] for (uint f = 0; f < GEMM_FRAGS_N; f++) {
					uint at = (r * 4 + c) * GEMM_FRAGS_N + f;
					gemm_acc[at] += vec4(part[at]) * up[c];
				}
			}
		}
#endif
	}
}

// gemm computes the tile whose first element is C[m0, n0] and hands it to gemm_store.
void gemm(uint m0, uint n0, uint K) {
	uint within = gl_LocalInvocationIndex % (GEMM_PATCH_M * GEMM_PATCH_N);
	uint patch_id = gl_LocalInvocationIndex / (GEMM_PATCH_M * GEMM_PATCH_N);
	uint tm = patch_id / (GEMM_THREADS_N / GEMM_PATCH_N) * GEMM_PATCH_M + within / GEMM_PATCH_N;
	uint tn = patch_id % (GEMM_THREADS_N / GEMM_PATCH_N) * GEMM_PATCH_N + within % GEMM_PATCH_N;
	[[unroll]] for (uint i = 0; i < REG_M * GEMM_FRAGS_N; i++) gemm_acc[i] = vec4(0.0);
	for (uint k0 = 0; k0 < K; k0 += TILE_K) {
		gemm_slice(m0, n0, k0);
		barrier();
		gemm_multiply(tm, tn);
		barrier();
	}
	[[unroll]] for (uint r = 0; r < GEMM_FRAGS_M; r++) {
		[[unroll]] for (uint c = 0; c < 4; c++) {
			[[unroll]] for (uint f = 0; f < GEMM_FRAGS_N; f++) {
				gemm_store(m0 + (r * GEMM_THREADS_M + tm) * 4 + c, n0 + (f * GEMM_THREADS_N + tn) * 4,
					gemm_acc[(r * 4 + c) * GEMM_FRAGS_N + f]);
			}
		}
	}
}
