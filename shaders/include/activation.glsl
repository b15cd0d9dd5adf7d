// Activation functions in fp32, numbered as ops.Activation.

#ifndef ACTIVATION_GLSL
#define ACTIVATION_GLSL

const uint ACTIVATION_NONE = 0;
const uint ACTIVATION_GELU = 1;       // u * Phi(u), Phi the normal distribution's cumulative function
const uint ACTIVATION_QUICK_GELU = 2; // u * sigmoid(1.702 u)
const uint ACTIVATION_SILU = 3;       // u * sigmoid(u)

// erf_parts returns erf(t) for t below the split, and 1 - erf(t) for t above it, t >= 0. Minimax polynomials by Norbert
// Juffa (NVIDIA developer forum, "a more accurate, performance-competitive implementation of erff()"), which err by less
// than one unit in the last place of erf.
const float ERF_SPLIT = 0.927734375;

float erf_parts(float t) {
	float s = t * t;
	float r;
	if (t > ERF_SPLIT) {
		r = fma(-1.72853470e-5, t, 3.83197126e-4);
		float u = fma(-3.88396438e-3, t, 2.42546219e-2);
		r = fma(r, s, u);
		r = fma(r, t, -1.06777877e-1);
		r = fma(r, t, -6.34846687e-1);
		r = fma(r, t, -1.28717512e-1);
		return exp(fma(r, t, -t));
	}
	r = -5.96761703e-4;
	r = fma(r, s, 4.99119423e-3);
	r = fma(r, s, -2.67681349e-2);
	r = fma(r, s, 1.12819925e-1);
	r = fma(r, s, -3.76125336e-1);
	r = fma(r, s, 1.28379166e-1);
	return fma(r, t, t);
}

// erf_f32 is the error function.
float erf_f32(float x) {
	float t = abs(x);
	float p = erf_parts(t);
	if (t > ERF_SPLIT) p = 1.0 - p;
	return x < 0.0 ? -p : p;
}

// gelu is u (1 + erf(u/sqrt 2)) / 2. The lower tail is taken from 1 - erf directly, so nothing cancels there.
float gelu(float u) {
	float t = abs(u) * 0.70710678118654752;
	float p = erf_parts(t);
	if (t > ERF_SPLIT) return u < 0.0 ? u * (0.5 * p) : u * (1.0 - 0.5 * p);
	return u * (u < 0.0 ? 0.5 - 0.5 * p : 0.5 + 0.5 * p);
}

float silu(float u) { return u / (1.0 + exp(-u)); }

float quick_gelu(float u) { return u / (1.0 + exp(-1.702 * u)); }

float activate(float u, uint kind) {
	if (kind == ACTIVATION_GELU) return gelu(u);
	if (kind == ACTIVATION_QUICK_GELU) return quick_gelu(u);
	if (kind == ACTIVATION_SILU) return silu(u);
	return u;
}

#endif
