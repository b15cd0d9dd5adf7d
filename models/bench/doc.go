// Package bench measures forward passes of the transformer at full shape: time, arithmetic rate, memory, and what block
// swapping cost. Text encoders and VAE are left out, and the inputs are random, so no checkpoint is needed.
//
// Times of single kernels and of copies come from timestamp queries on the device, the time of a pass from the host's
// clock around recording and waiting. The device must be opened with timings for the former.
package bench
