package vae

import (
	"context"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// VAE is the autoencoder on a device. Encoder and decoder are loaded one by one, where they are needed.
type VAE struct {
	dev       *engine.Device
	reader    load.Reader
	config    weights.VAEConfig
	precision load.Precision
	limits    Limits
	encoder   *load.Params
	decoder   *load.Params
}

// New prepares an autoencoder. It reads nothing but the types of the tensors it will need, and takes no device memory;
// Close gives back what LoadEncoder and LoadDecoder take. Missing tensors and impossible configurations are errors, but not
// that there is no encoder.
func New(dev *engine.Device, r load.Reader, c weights.VAEConfig, p load.Precision) (*VAE, error) {
	if p == load.Mixed {
		r = halfWeights{r}
	}
	v := &VAE{dev: dev, reader: r, config: c, precision: p, limits: LimitsOf(dev.Caps(), p)}
	if err := checkConfig(c); err != nil {
		return nil, err
	}
	for _, part := range []part{encoderPart, decoderPart} {
		if _, err := r.DType("encoder.conv_in.conv.weight"); part == encoderPart && err != nil {
			continue // LoadEncoder will say so
		}
		if _, err := part.group(c, r, p, v.limits); err != nil {
			return nil, fmt.Errorf("vae: %w", err)
		}
	}
	return v, nil
}

// checkConfig refuses what the kernels cannot compute.
func checkConfig(c weights.VAEConfig) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if middle := c.BlockOutChannels[len(c.BlockOutChannels)-1]; middle%4 != 0 || middle > 512 {
		return fmt.Errorf("vae: the last of block_out_channels is %d: the attention's head must be a multiple of 4 and at most 512", middle)
	}
	return nil
}

// part is the half of the network that is loaded at a time.
type part string

const (
	encoderPart part = "encoder"
	decoderPart part = "decoder"
)

// group lays out a part's tensors.
func (p part) group(c weights.VAEConfig, r load.Reader, precision load.Precision, l Limits) (load.Group, error) {
	quant := "quant_conv."
	if p == decoderPart {
		quant = "post_quant_conv."
	}
	mine := func(name string) bool {
		return strings.HasPrefix(name, string(p)+".") || strings.HasPrefix(name, quant)
	}
	return load.NewFoldedGroup(weights.VAESpec(c).Filter(mine), "", r, precision, func(name string) [3]int { return l.fold(c, name) })
}

// Config returns the network's configuration.
func (v *VAE) Config() weights.VAEConfig { return v.config }

// LoadEncoder brings the encoder's weights to the device; loading twice does nothing.
func (v *VAE) LoadEncoder(ctx context.Context) error { return v.load(ctx, encoderPart, &v.encoder) }

// LoadDecoder brings the decoder's weights to the device; loading twice does nothing.
func (v *VAE) LoadDecoder(ctx context.Context) error { return v.load(ctx, decoderPart, &v.decoder) }

func (v *VAE) load(ctx context.Context, p part, to **load.Params) error {
	if *to != nil {
		return nil
	}
	g, err := p.group(v.config, v.reader, v.precision, v.limits)
	if err != nil {
		return fmt.Errorf("vae: load the %s: %w", p, err)
	}
	params, err := load.Resident(ctx, v.dev, v.reader, g, p.label())
	if err != nil {
		return fmt.Errorf("vae: %s: %w", p, err)
	}
	*to = &params
	return nil
}

func (p part) label() string     { return "autoencoder: " + string(p) + " weights" }
func (p part) slabLabel() string { return "autoencoder: " + string(p) + " activations" }
func (p part) verb() string      { return string(p[:len(p)-1]) } // encode, decode

// FreeEncoder gives the encoder's memory back; LoadEncoder brings it again.
func (v *VAE) FreeEncoder() { v.free(&v.encoder) }

// FreeDecoder gives the decoder's memory back; LoadDecoder brings it again.
func (v *VAE) FreeDecoder() { v.free(&v.decoder) }

func (v *VAE) free(p **load.Params) {
	if *p != nil {
		(*p).Free(v.dev)
		*p = nil
	}
}

// Close gives all device memory back. Closing twice is harmless.
func (v *VAE) Close() {
	v.FreeEncoder()
	v.FreeDecoder()
}
