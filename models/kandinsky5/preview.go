package kandinsky5

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// colours are a linear map of latents to colours, a pixel for each latent: what a preview can afford instead of the
// decoder. Row c is what a latent of channel c adds to red, green and blue; the last row is added always. Colours go from
// 0 to 1.
type colours [][3]float64

// publishedColours are those of the published autoencoder's scaled latents, as the community uses them for previews
// (ComfyUI's latent format of HunyuanVideo); there they give -1 to 1.
func publishedColours() colours {
	return colours{
		{-0.0395, -0.0331, 0.0445}, {0.0696, 0.0795, 0.0518}, {0.0135, -0.0945, -0.0282}, {0.0108, -0.0250, -0.0765},
		{-0.0209, 0.0032, 0.0224}, {-0.0804, -0.0254, -0.0639}, {-0.0991, 0.0271, -0.0669}, {-0.0646, -0.0422, -0.0400},
		{-0.0696, -0.0595, -0.0894}, {-0.0799, -0.0208, -0.0375}, {0.1166, 0.1627, 0.0962}, {0.1165, 0.0432, 0.0407},
		{-0.2315, -0.1920, -0.1355}, {-0.0270, 0.0401, -0.0821}, {-0.0616, -0.0997, -0.0727}, {0.0249, -0.0469, -0.1703},
		{0.0259, -0.0192, -0.0761},
	}.scaled(0.5, 0.5)
}

// scaled maps the colours once more: x becomes factor·x + add.
func (c colours) scaled(factor, add float64) colours {
	out := make(colours, len(c))
	for k, row := range c {
		for i := range row {
			out[k][i] = factor * row[i]
		}
	}
	for i := range out[len(out)-1] {
		out[len(out)-1][i] += add
	}
	return out
}

// clip draws latents [T, H, W, C], a pixel for each.
func (c colours) clip(latents []float32, frames, height, width int) *Clip {
	channels := len(c) - 1
	out := &Clip{Frames: frames, Height: height, Width: width, Pix: make([]uint8, 3*frames*height*width)}
	for p := range frames * height * width {
		for i := range 3 {
			sum := c[channels][i]
			for k, v := range latents[p*channels : (p+1)*channels] {
				sum += c[k][i] * float64(v)
			}
			out.Pix[3*p+i] = uint8(math.Round(255 * min(1, max(0, sum)))) // NaN becomes 0
		}
	}
	return out
}

// predicted returns the clean latents that a step's velocity leads to: a step from before at time t to after at time u goes
// on in its direction until time 0.
func predicted(before, after []float32, t, u float32) []float32 {
	out := make([]float32, len(after))
	more := u / (t - u)
	for k, v := range after {
		out[k] = v + more*(v-before[k])
	}
	return out
}

// previewOf prepares the preview of a step; the work is done by whoever calls the result.
func (g *run) previewOf(before, after, first []float32, step Step) func() *Clip {
	if g.colours == nil {
		return nil
	}
	times := Timesteps(step.Count, g.settings.SchedulerScale)
	geometry, table := g.settings.Geometry, g.colours
	return func() *Clip {
		clean := predicted(before, after, times[step.Index], times[step.Index+1])
		copy(clean, first)
		return table.clip(clean, geometry.LatentFrames, geometry.LatentHeight, geometry.LatentWidth)
	}
}

// learnColours finds the map for the pipeline's autoencoder: the published one's is known, others are asked, once.
func (g *run) learnColours(ctx context.Context) error {
	if reflect.DeepEqual(g.nets.vaeConfig, weights.HunyuanVAE()) {
		g.colours = publishedColours()
		return nil
	}
	if g.learned != nil {
		g.colours = g.learned
		return nil
	}
	latents := patches(g.nets.vaeConfig.LatentChannels)
	picture, err := g.decodePatches(ctx, latents)
	if err != nil {
		return err
	}
	g.colours, err = fitColours(latents, picture, g.nets.vaeConfig.LatentChannels)
	g.learned = g.colours
	return err
}

// A test picture for the decoder has patchRow² patches, each of patchSide² latents of one value: the middle of a patch is the
// colour of that latent.
const (
	patchSide = 4
	patchRow  = 6
	patchEdge = patchSide * patchRow
)

// patches draws a latent for each patch, [patchEdge, patchEdge, C], distributed as scaled latents are.
func patches(channels int) []float32 {
	random := rand.New(rand.NewPCG(1, 2))
	values := make([]float32, patchRow*patchRow*channels)
	for k := range values {
		values[k] = float32(random.NormFloat64())
	}
	out := make([]float32, 0, patchEdge*patchEdge*channels)
	for y := range patchEdge {
		for x := range patchEdge {
			at := (y/patchSide*patchRow + x/patchSide) * channels
			out = append(out, values[at:at+channels]...)
		}
	}
	return out
}

// decodePatches takes latents [patchEdge, patchEdge, C] through the decoder.
func (g *run) decodePatches(ctx context.Context, latents []float32) (*Clip, error) {
	v, err := g.decoder(ctx)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	arena := g.device.NewArena("preview")
	defer arena.Release()
	t := arena.Alloc("patches", engine.F32, 1, patchEdge, patchEdge, g.nets.vaeConfig.LatentChannels)
	if err := arena.Err(); err != nil {
		return nil, err
	}
	if err := g.device.UploadF32(ctx, t, latents); err != nil {
		return nil, err
	}
	var out *Clip
	err = v.Decode(ctx, t, vae.DecodeOptions{Gain: float32(1 / g.nets.vaeConfig.ScalingFactor)}, func(f vae.Frames) error {
		out = &Clip{Frames: 1, Height: f.Height, Width: f.Width, Pix: slices.Clone(f.RGB)}
		return nil
	})
	return out, err
}

// fitColours finds the map that comes closest to what the decoder made of patches, by least squares: the normal equations
// of patchRow² samples.
func fitColours(latents []float32, picture *Clip, channels int) (colours, error) {
	n := channels + 1
	a := make([][]float64, n) // A | B: the sums of products
	for k := range a {
		a[k] = make([]float64, n+3)
		a[k][k] = 1e-3 // what no sample says anything about stays small
	}
	for p := range patchRow * patchRow {
		y, x := p/patchRow*patchSide+patchSide/2, p%patchRow*patchSide+patchSide/2
		row := make([]float64, n+3)
		for k, v := range latents[(y*patchEdge+x)*channels : (y*patchEdge+x+1)*channels] {
			row[k] = float64(v)
		}
		row[channels] = 1
		for i, v := range middle(picture, 8*y, 8*x) {
			row[n+i] = v
		}
		for k := range n {
			for i := range row {
				a[k][i] += row[k] * row[i]
			}
		}
	}
	return solve(a, n)
}

// middle is the mean colour of the 16×16 pixels around a point.
func middle(im *Clip, y, x int) (out [3]float64) {
	for dy := -8; dy < 8; dy++ {
		for dx := -8; dx < 8; dx++ {
			for i := range out {
				out[i] += float64(im.Pix[3*((y+dy)*im.Width+x+dx)+i]) / (255 * 256)
			}
		}
	}
	return out
}

// solve eliminates (Gauss and Jordan, without pivoting: the matrix is symmetric and positive definite).
func solve(a [][]float64, n int) (colours, error) {
	for k := range n {
		if !(a[k][k] > 1e-12) {
			return nil, errors.New("the decoder's colours do not depend on its latents")
		}
		for i := range a {
			if i == k {
				continue
			}
			f := a[i][k] / a[k][k]
			for j := k; j < len(a[i]); j++ {
				a[i][j] -= f * a[k][j]
			}
		}
	}
	out := make(colours, n)
	for k := range out {
		for i := range 3 {
			out[k][i] = a[k][n+i] / a[k][k]
		}
	}
	return out, nil
}
