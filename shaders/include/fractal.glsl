// Token order of NABLA attention: every 8 x 8 patch of tokens of one frame is 64 consecutive tokens, in the order
// (t, i/8, j/8, i mod 8, j mod 8). kandinsky-5, kandinsky/models/utils.py (fractal_flatten).

#ifndef FRACTAL_GLSL
#define FRACTAL_GLSL

// token_place returns (t, i, j) of token n among frames of height x width tokens. In fractal order both are multiples of 8.
uvec3 token_place(uint n, uint height, uint width, bool fractal) {
	uint frame = height * width;
	uint t = n / frame;
	uint r = n % frame;
	if (!fractal) return uvec3(t, r / width, r % width);
	uint block = r / 64;
	uint columns = width / 8;
	return uvec3(t, (block / columns) * 8 + (r % 64) / 8, (block % columns) * 8 + r % 8);
}

// token_index is the inverse of token_place.
uint token_index(uvec3 p, uint height, uint width, bool fractal) {
	if (!fractal) return (p.x * height + p.y) * width + p.z;
	uint block = (p.x * (height / 8) + p.y / 8) * (width / 8) + p.z / 8;
	return block * 64 + (p.y % 8) * 8 + p.z % 8;
}

#endif
