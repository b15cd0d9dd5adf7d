package dit

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// epsilons of the norms: PyTorch's LayerNorm default as the reference gives it, and RMSNorm's default, the machine
// epsilon of fp32.
const (
	layerNormEps = 1e-5
	rmsNormEps   = 1.1920929e-07
)

// Prompt is an encoded prompt.
type Prompt struct {
	Text   engine.Tensor // [L, in_text_dim], any float type; owned by the caller and not needed after NewPass
	Mask   engine.Tensor // U32 [L], 0 = padding; none: all rows are valid
	Pooled []float32     // [in_text_dim2]
}

// Size is what a pass is made for.
type Size struct {
	Frames, Height, Width int        // of the latents
	RopeScale             [3]float32 // divisors of the visual rotary angles (t, h, w)
}

// Grid returns the tokens along time, rows and columns.
func (s Size) Grid() [3]int { return [3]int{s.Frames, s.Height / 2, s.Width / 2} }

// Tokens returns the number of visual tokens.
func (s Size) Tokens() int { g := s.Grid(); return g[0] * g[1] * g[2] }

// Pass is a model made ready for one size and a few prompts.
type Pass struct {
	model    *Model
	size     Size
	arena    *engine.Arena
	branches []*branch
	work     workspace
	// Trace, when set, is called with intermediate tensors as soon as they are recorded, named as in the golden cases
	// with the branch: for checks against a reference.
	Trace func(branch int, name string, t engine.Tensor) error
}

// branch is one prompt's state.
type branch struct {
	text   engine.Tensor // y_0, F32 [L, D]: the embedded prompt
	mask   engine.Tensor
	pooled engine.Tensor // F32 [Td]
	cond   engine.Tensor // c, F32 [Td]
	act    engine.Tensor // SiLU(c)
	y      engine.Tensor // text stream, F32 [L, D]
	ctx    engine.Tensor // text stream as operand, [L, D]
	v      stream        // visual stream, F32 [N, D]
	out    engine.Tensor // velocity, F32 [T, H, W, C]
}

// NewPass embeds the prompts and allocates activations. Errors are a *memory.BudgetError, or say which size does not
// fit the model.
func (m *Model) NewPass(ctx context.Context, size Size, prompts []Prompt) (*Pass, error) {
	if err := m.checkSize(size); err != nil {
		return nil, err
	}
	p := &Pass{model: m, size: size, arena: m.device.NewArena("denoise")}
	if err := p.init(ctx, prompts); err != nil {
		return nil, oneline.Join(err, p.Close())
	}
	return p, nil
}

func (m *Model) checkSize(s Size) error {
	step := 2
	if m.Config.Nabla != nil {
		step = 16
	}
	switch {
	case s.Frames < 1 || s.Height < step || s.Width < step || s.Height%step != 0 || s.Width%step != 0:
		return fmt.Errorf("latents of %d frames of %d×%d do not fit: height and width must be multiples of %d (%d pixels)", s.Frames, s.Height, s.Width, step, 8*step)
	case s.Frames > 128 || s.Height > 256 || s.Width > 256:
		return fmt.Errorf("latents of %d frames of %d×%d do not fit: the model knows 128 positions along time, rows and columns (2048 pixels)", s.Frames, s.Height, s.Width)
	}
	return nil
}

func (p *Pass) init(ctx context.Context, prompts []Prompt) error {
	m := p.model
	longest := 0
	for k, prompt := range prompts {
		if prompt.Text.Dim(-1) != m.Config.InTextDim || len(prompt.Pooled) != m.Config.InTextDim2 {
			return fmt.Errorf("prompt %d: text of width %d and pooled of %d, the model wants %d and %d", k, prompt.Text.Dim(-1), len(prompt.Pooled), m.Config.InTextDim, m.Config.InTextDim2)
		}
		longest = max(longest, rows(prompt.Text))
	}
	p.work.alloc(p.arena, m, p.size, longest)
	if err := p.arena.Err(); err != nil {
		return err
	}
	if err := p.tables(ctx, longest); err != nil {
		return err
	}
	for _, prompt := range prompts {
		b, err := p.newBranch(ctx, prompt)
		if err != nil {
			return err
		}
		p.branches = append(p.branches, b)
	}
	if err := p.arena.Err(); err != nil {
		return err
	}
	return m.device.Compute().Finish(ctx)
}

// tables uploads the rotations of text and visual tokens, the latter in the order of the tokens.
func (p *Pass) tables(ctx context.Context, textRows int) error {
	m := p.model
	if err := m.device.UploadF32(ctx, p.work.textRope, ops.TextRopeTable(textRows, m.Config.HeadDim()).CosSin); err != nil {
		return err
	}
	table := ops.VisualRopeTable(p.size.Grid(), m.Config.AxesDims, p.size.RopeScale)
	if m.Config.Nabla != nil {
		table = reorder(table, ops.FractalOrder(p.size.Grid()))
	}
	return m.device.UploadF32(ctx, p.work.rope, table.CosSin)
}

func reorder(t ops.RopeTable, order []int) ops.RopeTable {
	out := ops.RopeTable{Tokens: t.Tokens, Pairs: t.Pairs, CosSin: make([]float32, len(t.CosSin))}
	n := 2 * t.Pairs
	for to, from := range order {
		copy(out.CosSin[to*n:(to+1)*n], t.CosSin[from*n:(from+1)*n])
	}
	return out
}

// newBranch embeds a prompt: y_0 = LN(W·q + b), and the pooled part of the conditioning, LN(W·p + b). Both are the same
// at every time.
func (p *Pass) newBranch(ctx context.Context, prompt Prompt) (*branch, error) {
	m, c := p.model, p.model.Config
	s, a := m.device.Compute(), p.arena
	l, td := rows(prompt.Text), c.TimeDim
	t := allocAll(a, c.branchBuffers(m.act, p.size, l, !prompt.Mask.IsZero(), m.device.Caps().MaxAllocation))
	if err := a.Err(); err != nil {
		return nil, err
	}
	b := &branch{text: t["embedded prompt"], mask: t["text mask"], pooled: t["pooled prompt"], cond: t["conditioning"],
		act: t["activated conditioning"], y: t["text stream"], ctx: t["text context"], v: t.stream(), out: t["velocity"]}
	if !prompt.Mask.IsZero() {
		s.Copy(b.mask, prompt.Mask.Reshape(l))
	}
	operand, err := m.device.Alloc("prompt", m.act, l, c.InTextDim)
	if err != nil {
		return nil, err
	}
	defer m.device.Free(operand)
	ops.Cast(s, operand, prompt.Text)
	ops.Matmul(s, ops.MatmulArgs{X: operand, W: m.outer.Get("text_embeddings.in_layer.weight"), Bias: m.outer.Get("text_embeddings.in_layer.bias"), Y: b.text, Half: m.half})
	ops.LayerNorm(s, ops.LayerNormArgs{X: b.text, Y: b.text, Weight: m.outer.Get("text_embeddings.norm.weight"), Bias: m.outer.Get("text_embeddings.norm.bias"), Eps: layerNormEps})

	pooled, err := m.device.Alloc("pooled prompt", engine.F32, 1, c.InTextDim2)
	if err != nil {
		return nil, err
	}
	defer m.device.Free(pooled)
	if err := m.device.UploadF32(ctx, pooled, prompt.Pooled); err != nil {
		return nil, err
	}
	row := b.pooled.Reshape(1, td)
	ops.Matmul(s, ops.MatmulArgs{X: pooled, W: m.outer.Get("pooled_text_embeddings.in_layer.weight"), Bias: m.outer.Get("pooled_text_embeddings.in_layer.bias"), Y: row})
	ops.LayerNorm(s, ops.LayerNormArgs{X: row, Y: row, Weight: m.outer.Get("pooled_text_embeddings.norm.weight"), Bias: m.outer.Get("pooled_text_embeddings.norm.bias"), Eps: layerNormEps})
	return b, s.Err()
}

// Close frees the activations.
func (p *Pass) Close() error {
	p.arena.Release()
	return nil
}

func rows(t engine.Tensor) int { return int(t.Elems()) / t.Dim(-1) }

func (p *Pass) trace(branch int, name string, t engine.Tensor) error {
	if p.Trace == nil {
		return nil
	}
	return p.Trace(branch, name, t)
}

// traceStream traces a stream, put together in one piece.
func (p *Pass) traceStream(branch int, name string, s stream) error {
	if p.Trace == nil {
		return nil
	}
	if len(s) == 1 {
		return p.Trace(branch, name, s[0])
	}
	d := p.model.device
	whole, err := d.Alloc("traced "+name, engine.F32, s.rows(), s[0].Dim(1))
	if err != nil {
		return err
	}
	defer d.Free(whole)
	s.each(func(piece engine.Tensor, from, to int) { d.Compute().Copy(whole.Rows(from, to), piece) })
	return p.Trace(branch, name, whole)
}

// params is shorthand for a linear layer of a group.
type params struct{ load.Params }

func (p params) linear(name string) (w, b engine.Tensor) {
	b, _ = p.Maybe(name + ".bias")
	return p.Get(name + ".weight"), b
}
