package bench

import (
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// VAEWork is the floating-point operations of a decode, a multiply-add counting as two.
type VAEWork struct {
	Convolutions float64 `json:"convolutions"` // as written, with all taps: folded upsampling does less
	Attention    float64 `json:"attention"`    // its linear layers included; a frame sees itself and those before
}

// Total returns all operations.
func (w VAEWork) Total() float64 { return w.Convolutions + w.Attention }

// WorkOfDecode counts the matrix products of decoding a video, tiles in time counted where they overlap. Tiles in space
// are left out: frames are taken as whole. Norms and the like are left out too.
func WorkOfDecode(c weights.VAEConfig, s vae.Size, t vae.Tiling) VAEWork {
	latents := (s.Frames-1)/4 + 1
	tile, step := (t.Frames-1)/4+1, t.FrameStride/4
	if t.Frames == 0 || latents <= tile {
		return workOfTile(c, latents, s.Height/8, s.Width/8)
	}
	var w VAEWork
	for at := 0; ; at += step {
		frames := min(tile, latents-at)
		one := workOfTile(c, frames, s.Height/8, s.Width/8)
		w.Convolutions += one.Convolutions
		w.Attention += one.Attention
		if at+frames == latents {
			return w
		}
	}
}

// workOfTile counts a tile of so many latent frames, rows and columns.
func workOfTile(c weights.VAEConfig, frames, height, width int) (w VAEWork) {
	conv := func(in, out, kernel int) {
		w.Convolutions += 2 * float64(frames*height*width) * float64(in*out*kernel*kernel*kernel)
	}
	resnet := func(in, out int) {
		conv(in, out, 3)
		conv(out, out, 3)
		if in != out {
			conv(in, out, 1)
		}
	}
	levels := c.BlockOutChannels
	in := levels[len(levels)-1]
	conv(c.LatentChannels, c.LatentChannels, 1)
	conv(c.LatentChannels, in, 3)
	resnet(in, in)
	resnet(in, in)
	places, wide := float64(height*width), float64(in)
	seen := float64(frames*(frames+1)) / 2 * places * places
	w.Attention = 4*seen*wide + 8*float64(frames)*places*wide*wide
	for b := range levels {
		out := levels[len(levels)-1-b]
		for range c.LayersPerBlock + 1 {
			resnet(in, out)
			in = out
		}
		if b < len(levels)-1 {
			if b > 0 { // the first upsampling leaves time alone
				frames = 2*frames - 1
			}
			height, width = 2*height, 2*width
			conv(out, out, 3)
		}
	}
	conv(levels[0], c.OutChannels, 3)
	return w
}
