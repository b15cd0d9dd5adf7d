// Package vae is the causal 3-D autoencoder between pixels and latents (HunyuanVideo; diffusers,
// models/autoencoders/autoencoder_kl_hunyuan_video.py; tiling as kandinsky-5, kandinsky/models/vae.py).
//
// One latent frame of h × w places and 16 channels stands for 8h × 8w pixels, and for four frames of video, the first for
// one: T pixel frames are (T − 1)/4 + 1 latent frames. All activations are channels-last.
//
// Memory. A video is held frame by frame (clip). Normalisation takes its statistics over all frames of a clip but writes
// normalised frames only when a convolution is about to read them, into a window of three; convolutions write frame by
// frame, and what they will not read again makes room at once. So a residual block holds its input and one more clip, not
// four, and nothing larger than a frame has to be in one piece. All of it lies in a few slabs (pool) whose sizes are known
// before work starts, because the same code that records the work plans it when it is run without a stream:
// Model.DecodeNeed and EncodeNeed are that, exact to the byte.
//
// Tiles. GroupNorm's statistics cover what is decoded at once, so tiling changes the result a little, and to reproduce a
// video the tiling must be the same. Tiling says what is decoded at once; ChooseTiling is the reference's choice and
// FitTiling one that fits this package's real need.
//
// A VAE is not safe for concurrent use: it records on the device's compute stream.
package vae
