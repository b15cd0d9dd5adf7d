package vae

import "github.com/vkandinsky/vkandinsky/engine"

// clip is a video held frame by frame, each [H, W, C].
type clip struct {
	frames []buffer
	h, w   int
}

func (c clip) channels() int { return c.frames[0].Dim(2) }

// tensors returns the frames' tensors.
func (c clip) tensors() []engine.Tensor {
	out := make([]engine.Tensor, len(c.frames))
	for k, f := range c.frames {
		out[k] = f.Tensor
	}
	return out
}

// empty returns a clip of so many frames whose memory is yet to be taken.
func empty(frames, h, w int) clip { return clip{frames: make([]buffer, frames), h: h, w: w} }

// video is a clip in one piece, [T, H, W, C].
type video struct{ buffer }

func (v video) frame(t int) engine.Tensor {
	h, w, c := v.Dim(1), v.Dim(2), v.Dim(3)
	return v.View(int64(t)*int64(h*w*c), h, w, c)
}
