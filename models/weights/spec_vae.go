package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// VAESpec lists the tensors of the causal 3D autoencoder, encoder and decoder (diffusers, models/autoencoders/
// autoencoder_kl_hunyuan_video.py). Convolution weights are [out, in, t, h, w]; every causal convolution is a
// wrapper, hence the doubled ".conv".
func VAESpec(c VAEConfig) Spec {
	var s Spec
	s.vaeEncoder(c)
	s.conv("quant_conv", 2*c.LatentChannels, 2*c.LatentChannels, 1)
	s.conv("post_quant_conv", c.LatentChannels, c.LatentChannels, 1)
	s.vaeDecoder(c)
	return s
}

// VAEDecoderSpec lists what decoding alone needs.
func VAEDecoderSpec(c VAEConfig) Spec {
	var s Spec
	s.conv("post_quant_conv", c.LatentChannels, c.LatentChannels, 1)
	s.vaeDecoder(c)
	return s
}

// DecoderOnly reports whether an autoencoder's checkpoint has nothing of the encoder, as kandinsky.cpp's files.
func (c *Checkpoint) DecoderOnly() bool {
	return !slices.ContainsFunc(c.names, func(name string) bool {
		return strings.HasPrefix(name, "encoder.") || strings.HasPrefix(name, "quant_conv.")
	})
}

// ErrNoEncoder is what errors about pictures wrap that an autoencoder's decoder alone cannot encode.
var ErrNoEncoder = errors.New("the autoencoder's file has no encoder, which a first frame needs: put the original vae/diffusion_pytorch_model.safetensors in its place")

// VAESpecOf lists what a checkpoint must have: both halves, unless there is nothing of the encoder.
func VAESpecOf(ckpt *Checkpoint, c VAEConfig) Spec {
	if ckpt.DecoderOnly() {
		return VAEDecoderSpec(c)
	}
	return VAESpec(c)
}

func (s *Spec) vaeEncoder(c VAEConfig) {
	levels := c.BlockOutChannels
	last := levels[len(levels)-1]
	s.conv("encoder.conv_in.conv", levels[0], c.InChannels, 3)
	in := levels[0]
	for b, out := range levels {
		prefix := fmt.Sprintf("encoder.down_blocks.%d.", b)
		for r := range c.LayersPerBlock {
			s.resnet(fmt.Sprintf("%sresnets.%d.", prefix, r), out, in)
			in = out
		}
		if b < len(levels)-1 {
			s.conv(prefix+"downsamplers.0.conv.conv", out, out, 3)
		}
	}
	s.vaeMiddle("encoder.mid_block.", last)
	s.affine("encoder.conv_norm_out", last)
	s.conv("encoder.conv_out.conv", 2*c.LatentChannels, last, 3)
}

func (s *Spec) vaeDecoder(c VAEConfig) {
	levels := c.BlockOutChannels
	in := levels[len(levels)-1]
	s.conv("decoder.conv_in.conv", in, c.LatentChannels, 3)
	s.vaeMiddle("decoder.mid_block.", in)
	for b := range levels {
		out := levels[len(levels)-1-b]
		prefix := fmt.Sprintf("decoder.up_blocks.%d.", b)
		for r := range c.LayersPerBlock + 1 {
			s.resnet(fmt.Sprintf("%sresnets.%d.", prefix, r), out, in)
			in = out
		}
		if b < len(levels)-1 {
			s.conv(prefix+"upsamplers.0.conv.conv", out, out, 3)
		}
	}
	s.affine("decoder.conv_norm_out", levels[0])
	s.conv("decoder.conv_out.conv", c.OutChannels, levels[0], 3)
}

// conv appends a cubic convolution's weight and bias.
func (s *Spec) conv(prefix string, out, in, kernel int) {
	s.add(prefix+".weight", out, in, kernel, kernel, kernel)
	s.add(prefix+".bias", out)
}

func (s *Spec) resnet(prefix string, out, in int) {
	s.affine(prefix+"norm1", in)
	s.conv(prefix+"conv1.conv", out, in, 3)
	s.affine(prefix+"norm2", out)
	s.conv(prefix+"conv2.conv", out, out, 3)
	if in != out {
		s.conv(prefix+"conv_shortcut.conv", out, in, 1)
	}
}

func (s *Spec) vaeMiddle(prefix string, channels int) {
	s.resnet(prefix+"resnets.0.", channels, channels)
	s.affine(prefix+"attentions.0.group_norm", channels)
	for _, name := range []string{"to_q", "to_k", "to_v", "to_out.0"} {
		s.linear(prefix+"attentions.0."+name, channels, channels)
	}
	s.resnet(prefix+"resnets.1.", channels, channels)
}
