package qwen

import (
	"context"
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// visionEps is the epsilon of the vision tower's norms, which its configuration does not name.
const visionEps = 1e-6

// ImageEmbeds returns the rows that stand for a picture in the decoder's input, F32 [cells, D] in row-major order. The
// tensor is the caller's to free. Weights are brought to the device block after block and freed at once.
func (m *Model) ImageEmbeds(ctx context.Context, i Image) (engine.Tensor, error) {
	if err := i.check(m.Config.Vision); err != nil {
		return engine.Tensor{}, err
	}
	if m.vision.blocks == nil {
		l, err := visionLayoutOf(m.Config, m.reader, m.precision, m.quantize)
		if err != nil {
			return engine.Tensor{}, err
		}
		for _, g := range append(l.blocks[:len(l.blocks):len(l.blocks)], l.merger) {
			if err := bindable(g, m.device.Caps().MaxStorageRange); err != nil {
				return engine.Tensor{}, err
			}
		}
		m.vision = l
	}
	b := embedsBuffer(m.Config.Vision, i.Rows*i.Cols)
	out, err := m.device.Alloc("qwen: "+b.Label, b.DType, b.Shape...)
	if err != nil {
		return out, err
	}
	arena := m.device.NewArena("qwen vision")
	defer arena.Release()
	v := &tower{Model: m, config: m.Config.Vision, stream: m.device.Compute()}
	if err := v.run(ctx, arena, arrange(i, m.Config.Vision), out); err != nil {
		m.device.Free(out)
		return engine.Tensor{}, err
	}
	return out, nil
}

func embedsBuffer(c weights.QwenVisionConfig, patches int) load.Buffer {
	return load.Buffer{Label: "picture", DType: engine.F32, Shape: []int{patches / (c.SpatialMergeSize * c.SpatialMergeSize), c.OutHiddenSize}}
}

// tower is the vision tower at work on one picture of N patches.
type tower struct {
	*Model
	config   weights.QwenVisionConfig
	stream   *engine.Stream
	x        engine.Tensor // F32 [N, D]: residual stream
	h        engine.Tensor // [N, D]: normed input of a block; attention's output, once queries, keys and values exist
	wide     engine.Tensor // pixels, then [3·heads, N, d]: queries, keys and values, then the merger's input
	gate, up engine.Tensor // [chunk, F]
	table    engine.Tensor // F32 [N, d/2, 2]: rotations
	ranges   engine.Tensor // U32 [N, 2]: the patches that each sees in a windowed block
	back     engine.Tensor // U32 [N/4]: the place of each cell
	scratch  engine.Tensor // U32, for fp16 attention
}

func towerBuffers(c weights.QwenVisionConfig, act engine.DType, patches int, halved bool) []load.Buffer {
	chunk := chunkRows(act, c.IntermediateSize, patches)
	list := []load.Buffer{
		{Label: "residual stream", DType: engine.F32, Shape: []int{patches, c.HiddenSize}},
		{Label: "normed", DType: act, Shape: []int{patches, c.HiddenSize}},
		{Label: "pixels, queries, keys and values", DType: act, Shape: []int{patches, max(3*c.HiddenSize, patchElements(c))}},
		{Label: "feed-forward gate", DType: act, Shape: []int{chunk, c.IntermediateSize}},
		{Label: "feed-forward", DType: act, Shape: []int{chunk, c.IntermediateSize}},
		{Label: "rotations", DType: engine.F32, Shape: []int{patches, c.HiddenSize / c.NumHeads / 2, 2}},
		{Label: "windows", DType: engine.U32, Shape: []int{patches, 2}},
		{Label: "order", DType: engine.U32, Shape: []int{patches / (c.SpatialMergeSize * c.SpatialMergeSize)}},
	}
	if halved {
		words := ops.AttentionScratch(c.NumHeads, c.NumHeads)
		list = append(list, load.Buffer{Label: "attention scratch", DType: engine.U32, Shape: []int{words}})
	}
	return list
}

func (v *tower) run(ctx context.Context, arena *engine.Arena, a arranged, out engine.Tensor) error {
	list := towerBuffers(v.config, v.act, len(a.places), v.half)
	t := make([]engine.Tensor, 9)
	for k, b := range list {
		t[k] = b.Alloc(arena)
	}
	if err := arena.Err(); err != nil {
		return err
	}
	v.x, v.h, v.wide, v.gate, v.up, v.table, v.ranges, v.back, v.scratch = t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8]
	if err := v.upload(ctx, a); err != nil {
		return err
	}
	err := v.with(ctx, v.vision.patch, func(p load.Params) {
		pixels := v.wide.View(0, len(a.places), patchElements(v.config))
		w := p.Get("proj.weight").Reshape(v.config.HiddenSize, patchElements(v.config))
		ops.Matmul(v.stream, ops.MatmulArgs{X: pixels, W: w, Y: v.x, Half: v.half})
	})
	if err != nil {
		return err
	}
	for i, g := range v.vision.blocks {
		full := slices.Contains(v.config.FullAttBlockIndexes, i)
		if err := v.with(ctx, g, func(p load.Params) { v.block(p, full) }); err != nil {
			return fmt.Errorf("vision block %d: %w", i, err)
		}
	}
	return v.with(ctx, v.vision.merger, func(p load.Params) { v.merge(p, out) })
}

func (v *tower) upload(ctx context.Context, a arranged) error {
	d := v.device
	if err := d.UploadF32(ctx, v.wide.View(0, len(a.pixels)), a.pixels); err != nil {
		return err
	}
	if err := d.UploadF32(ctx, v.table, ops.VisionRopeTable(a.places, v.config.HiddenSize/v.config.NumHeads).CosSin); err != nil {
		return err
	}
	if err := d.UploadU32(ctx, v.ranges, a.ranges); err != nil {
		return err
	}
	return d.UploadU32(ctx, v.back, a.back)
}

// with brings weights to the device, records work with them, submits it and lets them go. The file is read while the
// GPU works on what was submitted before.
func (v *tower) with(ctx context.Context, g load.Group, record func(p load.Params)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := load.Resident(ctx, v.device, v.reader, g, "qwen: vision weights")
	if err != nil {
		return err
	}
	record(p)
	p.Free(v.device)
	_, err = v.stream.Flush()
	return err
}

// block records one transformer block; full ones see the whole picture, the others their window.
func (v *tower) block(p load.Params, full bool) {
	s, c := v.stream, v.config
	n, d := v.x.Dim(0), c.HiddenSize/c.NumHeads
	qkv := v.wide.View(0, 3*c.NumHeads, n, d)
	part := func(k int) engine.Tensor { return qkv.Rows(k*c.NumHeads, (k+1)*c.NumHeads) }

	ops.RMSNorm(s, ops.RMSNormArgs{X: v.x, Y: v.h, Weight: p.Get("norm1.weight"), Eps: visionEps})
	v.project(s, p, "attn.qkv", v.h, qkv)
	ops.Rope(s, ops.RopeArgs{X: ops.HeadMajor(qkv.Rows(0, 2*c.NumHeads)), Table: v.table, Split: true})
	a := ops.AttentionArgs{Q: part(0), K: part(1), V: part(2), Out: v.h, Half: v.half, Scratch: v.scratch}
	if !full {
		a.Mode, a.Ranges = ops.AttentionRanges, v.ranges
	}
	ops.Attention(s, a)
	linear(s, p, "attn.proj", ops.MatmulArgs{X: v.h, Y: v.x, Add: true, Half: v.half})

	ops.RMSNorm(s, ops.RMSNormArgs{X: v.x, Y: v.h, Weight: p.Get("norm2.weight"), Eps: visionEps})
	feedForward(s, p, v.h, v.x, v.gate, v.up, v.half)
}

// merge records the merger: the patches of each cell become one row, in the picture's own order.
func (v *tower) merge(p load.Params, out engine.Tensor) {
	s, cells := v.stream, v.back.Dim(0)
	width := v.h.Dim(0) / cells * v.config.HiddenSize
	ops.RMSNorm(s, ops.RMSNormArgs{X: v.x, Y: v.h, Weight: p.Get("ln_q.weight"), Eps: visionEps})
	joined, hidden := v.wide.View(0, cells, width), v.h.Reshape(cells, width)
	ops.Gather(s, joined, hidden, v.back)
	linear(s, p, "mlp.0", ops.MatmulArgs{X: joined, Y: hidden, Activation: ops.GELU, Half: v.half})
	linear(s, p, "mlp.2", ops.MatmulArgs{X: hidden, Y: out, Half: v.half})
}
