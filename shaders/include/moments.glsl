// Moments of a set of numbers: x = count, y = mean, z = sum of squared differences from the mean.

#ifndef MOMENTS_GLSL
#define MOMENTS_GLSL

// moments_join merges the moments of two disjoint sets (Chan, Golub, LeVeque 1979). Nothing cancels, whatever the mean is.
vec3 moments_join(vec3 a, vec3 b) {
	float n = a.x + b.x;
	if (b.x == 0.0) return a;
	if (a.x == 0.0) return b;
	float d = b.y - a.y;
	float share = b.x / n;
	return vec3(n, a.y + d * share, a.z + b.z + d * d * a.x * share);
}

#endif
