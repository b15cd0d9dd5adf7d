package vae

import (
	"context"
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// job is one encoding or decoding: it cuts the input into tiles, runs the network over each and joins what comes out.
// When its net has no stream it only plans.
type job struct {
	part     part
	in       engine.Tensor // [T, H, W, C], any float type
	gain     float32       // the input is multiplied by this
	tiling   Tiling
	from, to unit // what a latent place is in the input and in the output
	// emit takes frames of the result, f32 [H, W, C] each, from number first on. What it records or takes from the pool
	// must be the same when it plans.
	emit     func(ctx context.Context, n *net, first int, frames []buffer) error
	progress func(done, total int)

	net         *net
	layers      []layer
	done, total int
	planned     map[[3]int]bool // sizes of tiles that were planned
	channels    int             // of the result
}

// unit is how many frames and places of a side one latent place stands for; the first frame stands for one.
type unit struct{ frames, places int }

var (
	latentUnit = unit{1, 1}
	pixelUnit  = unit{temporal, spatial}
)

// count is the number of frames of so many latent ones, the very first among them.
func (u unit) count(latents int) int { return (latents-1)*u.frames + 1 }

// latents is the number of latent frames that so many frames are.
func (u unit) latents(frames int) int { return (frames-1)/u.frames + 1 }

// run encodes or decodes everything and emits the result's frames in order.
func (j *job) run(ctx context.Context) error {
	rows := cuts(j.in.Dim(1)/j.from.places, j.tiling.Height/spatial, j.tiling.HeightStep/spatial)
	columns := cuts(j.in.Dim(2)/j.from.places, j.tiling.Width/spatial, j.tiling.WidthStep/spatial)
	times := timeCuts(j.from.latents(j.in.Dim(0)), j.tiling.latentFrames(), j.tiling.FrameStride/temporal)
	j.total = len(times) * len(rows) * len(columns)
	var before clip
	first := 0
	for k, time := range times {
		x, err := j.frames(ctx, time, rows, columns)
		if err != nil {
			return err
		}
		keep := j.to.count(time.keep)
		if k > 0 {
			j.net.kept.put(x.frames[0])
			x.frames = x.frames[1:]
			keep = time.keep * j.to.frames
			j.fade(x, before, time.fade*j.to.frames)
			j.free(before)
		}
		if err := j.emit(ctx, j.net, first, x.frames[:keep]); err != nil {
			return err
		}
		first += keep
		before = x
		if k+1 < len(times) {
			drop := max(0, len(x.frames)-times[k+1].fade*j.to.frames) // only what is faded into the next tile is kept
			j.net.kept.put(x.frames[:drop]...)
			before.frames = x.frames[drop:]
		}
	}
	j.free(before)
	if err := j.net.settle(ctx); err != nil {
		return err
	}
	return j.net.err()
}

// fade blends the last frames of a clip into the first of the next (kandinsky/models/vae.py, blend_t).
func (j *job) fade(next, before clip, extent int) {
	extent = min(extent, len(next.frames), len(before.frames))
	for i := range extent {
		if j.net.planning() {
			return
		}
		b, a := next.frames[i].Tensor, before.frames[len(before.frames)-extent+i].Tensor
		part := float32(i) / float32(extent)
		ops.Axpby(j.net.stream, b, 1-part, a, part, b)
	}
}

// frames encodes or decodes one tile in time, in tiles of rows and columns where there are several. Each tile is faded
// with the one above it, then with the one to its left, both already faded themselves (kandinsky/models/vae.py, tiled_decode).
func (j *job) frames(ctx context.Context, time cut, rows, columns []cut) (clip, error) {
	if len(rows) == 1 && len(columns) == 1 {
		return j.tile(ctx, time, rows[0], columns[0])
	}
	var out clip
	above := make([]clip, len(columns))
	for r, row := range rows {
		for c, column := range columns {
			x, err := j.tile(ctx, time, row, column)
			if err != nil {
				return out, err
			}
			if r == 0 && c == 0 {
				out = j.blank(x, rows, columns)
			}
			if r > 0 {
				j.blend(x, above[c], 0, row.fade*j.to.places)
				j.free(above[c])
			}
			if c > 0 {
				j.blend(x, above[c-1], 1, column.fade*j.to.places)
			}
			j.paste(out, x, row, column)
			above[c] = x
			if last := r == len(rows)-1; last && c > 0 {
				j.free(above[c-1])
			}
		}
	}
	j.free(above[len(above)-1])
	return out, nil
}

// blank takes the memory of a whole tile in time, whose parts look like x.
func (j *job) blank(x clip, rows, columns []cut) clip {
	out := empty(len(x.frames), rows[len(rows)-1].to*j.to.places, columns[len(columns)-1].to*j.to.places)
	for t := range out.frames {
		out.frames[t] = j.net.kept.take(engine.F32, out.h, out.w, x.channels())
	}
	return out
}

func (j *job) blend(next, before clip, axis, extent int) {
	for t := range next.frames {
		if !j.net.planning() {
			ops.Blend(j.net.stream, next.frames[t].Tensor, before.frames[t].Tensor, axis, extent)
		}
	}
}

// paste copies what is kept of a tile into the whole.
func (j *job) paste(out, x clip, row, column cut) {
	at := []int{row.from * j.to.places, column.from * j.to.places, 0}
	size := []int{row.keep * j.to.places, column.keep * j.to.places, x.channels()}
	for t := range x.frames {
		if !j.net.planning() {
			ops.CopyRegion(j.net.stream, out.frames[t].Tensor, at, x.frames[t].Tensor, []int{0, 0, 0}, size)
		}
	}
}

// tile runs the network over one tile. When planning, tiles of one size are planned once.
func (j *job) tile(ctx context.Context, time, row, column cut) (clip, error) {
	size := [3]int{time.to - time.from, row.to - row.from, column.to - column.from}
	if j.net.planning() && j.planned[size] {
		out := empty(j.to.count(size[0]), size[1]*j.to.places, size[2]*j.to.places)
		for t := range out.frames {
			out.frames[t] = j.net.kept.take(engine.F32, out.h, out.w, j.channels)
		}
		return out, j.net.err()
	}
	for {
		x, err := j.net.run(ctx, j.crop(time, row, column), j.layers)
		if err != nil {
			return x, err
		}
		if j.net.planning() {
			j.planned[size], j.channels = true, x.channels()
			j.net.hostBytes = max(j.net.hostBytes, corner(x).Bytes())
			return x, nil
		}
		sound, err := j.finite(ctx, x)
		if err != nil {
			return x, err
		}
		if sound {
			j.done++
			if j.progress != nil {
				j.progress(j.done, j.total)
			}
			return x, nil
		}
		dt, ok := wider(j.net.act)
		if !ok {
			return x, fmt.Errorf("vae: %s: the result is not finite: the weights or the input are broken", j.part.verb())
		}
		j.free(x)
		j.net.act = dt
	}
}

// free puts a result's memory back.
func (j *job) free(c clip) { j.net.kept.put(c.frames...) }

// finite waits for a tile and tells whether it is sound. A corner is enough to look at: what is not finite anywhere in the
// network is everywhere after the next GroupNorm, whose statistics cover the tile.
func (j *job) finite(ctx context.Context, x clip) (bool, error) {
	if err := j.net.back.Start(corner(x)); err != nil {
		return false, err
	}
	raw, err := j.net.back.Take(ctx)
	if err != nil {
		return false, err
	}
	values := make([]float32, len(raw)/4)
	numeric.F32sFromBytes(values, raw)
	for _, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return false, nil
		}
	}
	return true, nil
}

func corner(x clip) engine.Tensor { return x.frames[0].Rows(0, 1) }

// crop copies a tile out of the input.
func (j *job) crop(time, row, column cut) clip {
	u := j.from
	x := empty(u.count(time.to-time.from), (row.to-row.from)*u.places, (column.to-column.from)*u.places)
	channels := j.in.Dim(3)
	for t := range x.frames {
		x.frames[t] = j.net.pool.take(engine.F32, x.h, x.w, channels)
		if j.net.planning() {
			continue
		}
		y := x.frames[t].Tensor
		ops.CopyRegion(j.net.stream, y.Reshape(1, x.h, x.w, channels), []int{0, 0, 0, 0}, j.in,
			[]int{time.from*u.frames + t, row.from * u.places, column.from * u.places, 0}, []int{1, x.h, x.w, channels})
		if j.gain != 1 {
			ops.Affine(j.net.stream, y, y, j.gain, 0)
		}
	}
	return x
}
