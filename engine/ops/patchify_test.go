package ops_test

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

func patchCases() []rowCase {
	var out []rowCase
	for _, c := range []struct {
		grid              [3]int
		fractal           bool
		latent, condition int
		cond              bool
		mask              bool
		maskFrames        int
	}{
		{[3]int{3, 8, 12}, false, 16, 16, false, true, 1},
		{[3]int{5, 16, 48}, true, 16, 16, false, true, 1},
		{[3]int{2, 16, 16}, true, 16, 0, false, false, 0},
		{[3]int{1, 2, 2}, false, 16, 16, true, true, 0},
		{[3]int{4, 6, 10}, false, 3, 5, true, true, 2},
		{[3]int{4, 6, 10}, false, 1, 2, true, false, 0},
	} {
		p := ref.Patches{Frames: c.grid[0], Height: c.grid[1], Width: c.grid[2], Fractal: c.fractal}
		places := c.grid[0] * c.grid[1] * c.grid[2]
		out = append(out, rowCase{fmt.Sprintf("patches of %v with %d+%d channels, mask %v", c.grid, c.latent, c.condition, c.mask), func(b *gemmBench) (got, want, tolerance []float64) {
			types := b.anyTypes(3)
			latents := b.values(types[0], places*c.latent, 1)
			var cond []float64
			if c.cond {
				cond = b.values(types[1], places*c.condition, 1)
			}
			joined := joinChannels(latents, cond, places, c.latent, c.condition)
			channels := c.latent + c.condition
			if c.mask {
				mask := make([]float64, places)
				for i := range c.maskFrames * c.grid[1] * c.grid[2] {
					mask[i] = 1
				}
				joined = joinChannels(joined, mask, places, channels, 1)
				channels++
			}
			y := b.output(types[2], places/4, 4*channels)
			ops.Patchify(b.dev.Compute(), ops.PatchifyArgs{
				Latents: b.amid(types[0], 1, latents, c.grid[0], c.grid[1], c.grid[2], c.latent), CondChannels: c.condition,
				Cond: b.amid(types[1], 3, cond, c.grid[0], c.grid[1], c.grid[2], c.condition), Mask: c.mask, MaskFrames: c.maskFrames, Fractal: c.fractal, Y: y})
			want = p.Cut(joined, channels)
			return b.finish(y), want, exact(types[2], want)
		}})
		out = append(out, rowCase{fmt.Sprintf("frames of %v with %d channels", c.grid, c.latent), func(b *gemmBench) (got, want, tolerance []float64) {
			types := b.anyTypes(2)
			x := b.values(types[0], places*c.latent, 1)
			y := b.outputAt(types[1], 3, c.grid[0], c.grid[1], c.grid[2], c.latent)
			ops.Unpatchify(b.dev.Compute(), y, b.amid(types[0], 5, x, places/4, 4*c.latent), c.fractal)
			want = p.Join(x, c.latent)
			return b.finish(y), want, exact(types[1], want)
		}})
	}
	return out
}

// joinChannels appends b's channels (zeros for nil) to a's at every place.
func joinChannels(a, b []float64, places, ca, cb int) []float64 {
	var out []float64
	for i := range places {
		out = append(out, a[i*ca:(i+1)*ca]...)
		if b == nil {
			out = append(out, make([]float64, cb)...)
		} else {
			out = append(out, b[i*cb:(i+1)*cb]...)
		}
	}
	return out
}

func TestPatchifyMatchesReference(t *testing.T) { checkRowCases(t, patchCases()) }

func TestPatchifyInFractalOrderIsTheRowMajorOnePermuted(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	latents := b.upload(engine.F32, b.values(engine.F32, 2*16*32*4, 1), 2, 16, 32, 4)
	plain, fractal := b.output(engine.F32, 256, 16), b.output(engine.F32, 256, 16)
	ops.Patchify(dev.Compute(), ops.PatchifyArgs{Latents: latents, Y: plain})
	ops.Patchify(dev.Compute(), ops.PatchifyArgs{Latents: latents, Y: fractal, Fractal: true})
	got, rows := b.finish(fractal), b.read(plain)
	for n, token := range ops.FractalOrder([3]int{2, 8, 16}) {
		b.sameBits(got[n*16:(n+1)*16], rows[token*16:(token+1)*16])
	}
}

func TestPatchifyPanicsOnMisuse(t *testing.T) {
	dev := enginetest.Open(t)
	b := newGemmBench(t, dev, 1)
	tensor := func(shape ...int) engine.Tensor { return b.arena.Alloc("x", engine.F32, shape...) }
	s := dev.Compute()
	mustPanic(t, "an odd height", func() { ops.Patchify(s, ops.PatchifyArgs{Latents: tensor(1, 3, 4, 2), Y: tensor(3, 8)}) })
	mustPanic(t, "a fractal height of 8", func() {
		ops.Patchify(s, ops.PatchifyArgs{Latents: tensor(1, 8, 16, 1), Y: tensor(32, 4), Fractal: true})
	})
	mustPanic(t, "too few channels", func() { ops.Patchify(s, ops.PatchifyArgs{Latents: tensor(1, 2, 2, 4), Mask: true, Y: tensor(1, 16)}) })
	mustPanic(t, "cond of another size", func() {
		ops.Patchify(s, ops.PatchifyArgs{Latents: tensor(1, 2, 2, 1), CondChannels: 1, Cond: tensor(3), Y: tensor(1, 8)})
	})
	mustPanic(t, "rows of the wrong width", func() { ops.Unpatchify(s, tensor(1, 2, 2, 4), tensor(2, 8), false) })
}
