package weights

import "fmt"

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
