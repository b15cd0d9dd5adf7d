package weights

import "fmt"

// VAEConfig is the config.json of the causal 3D autoencoder (diffusers, models/autoencoders/
// autoencoder_kl_hunyuan_video.py).
type VAEConfig struct {
	InChannels               int     `json:"in_channels"`
	OutChannels              int     `json:"out_channels"`
	LatentChannels           int     `json:"latent_channels"`
	BlockOutChannels         []int   `json:"block_out_channels"` // encoder order, finest first; always four levels
	LayersPerBlock           int     `json:"layers_per_block"`   // residual blocks per encoder level; the decoder has one more
	NormNumGroups            int     `json:"norm_num_groups"`
	ScalingFactor            float64 `json:"scaling_factor"`
	SpatialCompressionRatio  int     `json:"spatial_compression_ratio"`
	TemporalCompressionRatio int     `json:"temporal_compression_ratio"`
}

// HunyuanVAE is the published video autoencoder (hunyuanvideo-community/HunyuanVideo, vae/config.json).
func HunyuanVAE() VAEConfig {
	return VAEConfig{
		InChannels: 3, OutChannels: 3, LatentChannels: 16, BlockOutChannels: []int{128, 256, 512, 512}, LayersPerBlock: 2,
		NormNumGroups: 32, ScalingFactor: 0.476986, SpatialCompressionRatio: 8, TemporalCompressionRatio: 4,
	}
}

// Validate refuses sizes that no network of this kind can have.
func (c VAEConfig) Validate() error {
	err := firstError(
		inRange("in_channels", c.InChannels, 1, 64), inRange("out_channels", c.OutChannels, 1, 64),
		inRange("latent_channels", c.LatentChannels, 1, 1<<12), inRange("layers_per_block", c.LayersPerBlock, 1, 64),
		inRange("norm_num_groups", c.NormNumGroups, 1, 1<<12),
		inRange("number of block_out_channels", len(c.BlockOutChannels), 4, 4),
		inRange("spatial_compression_ratio", c.SpatialCompressionRatio, 8, 8),
		inRange("temporal_compression_ratio", c.TemporalCompressionRatio, 4, 4),
	)
	for _, channels := range c.BlockOutChannels {
		err = firstError(err, inRange("block_out_channels", channels, 1, 1<<14))
		if err == nil && channels%c.NormNumGroups != 0 {
			err = fmt.Errorf("block_out_channels %v: %d is not a multiple of norm_num_groups %d", c.BlockOutChannels, channels, c.NormNumGroups)
		}
	}
	if err == nil && !(c.ScalingFactor > 0 && c.ScalingFactor < 1e6) {
		err = fmt.Errorf("scaling_factor is %g, want a positive number", c.ScalingFactor)
	}
	if err != nil {
		return fmt.Errorf("weights: VAE config: %w", err)
	}
	return nil
}
