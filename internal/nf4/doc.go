// Package nf4 is the 4-bit format of bitsandbytes: NormalFloat4 in blocks of 64 with double quantization of the scales
// (bitsandbytes, functional.py, quantize_4bit; csrc/kernels.cu, dQuantizeNF4 and dQuantize).
//
// A matrix is taken as one row of numbers, rounded to bf16. Every block of 64 has a scale, its largest magnitude; each
// number, divided by the scale, becomes the number of the nearest of 16 code points. The scales are quantized in turn:
// their mean is taken off, and each block of 256 of them has a scale in fp32 and an entry of a map of 256 points each.
// That is 4.127 bits a number. A number comes back as bf16(code[q] · (map[s]·scale₂ + mean)).
//
// Layout says where these parts lie in one run of bytes, the form in which a matrix waits on the host, crosses the bus
// and is read by kernels (shaders/include/nf4.glsl).
package nf4
