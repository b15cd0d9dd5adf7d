package vae

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// encoder lists the layers from pixels to the posterior's parameters, mean and logarithm of the variance.
func (n *net) encoder(c weights.VAEConfig) []layer {
	layers := []layer{n.conv("encoder.conv_in.conv")}
	for b := range c.BlockOutChannels {
		prefix := fmt.Sprintf("encoder.down_blocks.%d.", b)
		for r := range c.LayersPerBlock {
			layers = append(layers, n.resnet(fmt.Sprintf("%sresnets.%d.", prefix, r)))
		}
		if b < len(c.BlockOutChannels)-1 {
			layers = append(layers, n.downsample(prefix+"downsamplers.0.conv.conv", timeFactor(b)))
		}
	}
	layers = append(layers, n.middle("encoder.mid_block.")...)
	return append(layers, n.finish("encoder.conv_norm_out", "encoder.conv_out.conv", n.pool), n.exact("quant_conv", n.kept))
}

// decoder lists the layers from latents to pixels.
func (n *net) decoder(c weights.VAEConfig) []layer {
	layers := []layer{n.exact("post_quant_conv", n.pool), n.conv("decoder.conv_in.conv")}
	layers = append(layers, n.middle("decoder.mid_block.")...)
	for b := range c.BlockOutChannels {
		prefix := fmt.Sprintf("decoder.up_blocks.%d.", b)
		for r := range c.LayersPerBlock + 1 {
			layers = append(layers, n.resnet(fmt.Sprintf("%sresnets.%d.", prefix, r)))
		}
		if b < len(c.BlockOutChannels)-1 {
			layers = append(layers, n.upsample(prefix+"upsamplers.0.conv.conv", timeFactor(b)))
		}
	}
	return append(layers, n.finish("decoder.conv_norm_out", "decoder.conv_out.conv", n.kept))
}

func (n *net) middle(prefix string) []layer {
	return []layer{n.resnet(prefix + "resnets.0."), n.attention(prefix + "attentions.0."), n.resnet(prefix + "resnets.1.")}
}

// timeFactor is the factor in time of the sampling after block b: two of the three change the number of frames.
func timeFactor(b int) int { return min(b+1, 2) }
