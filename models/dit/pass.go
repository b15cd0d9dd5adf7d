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

// PassOptions say what a pass is made for.
type PassOptions struct {
	Size    Size
	Prompts []Prompt  // one per branch
	Times   []float32 // all that Evaluate will be asked for: 1000 at pure noise, 0 at the end
	// Trace, when set, is called with intermediate tensors as soon as they are recorded, named as in the golden cases
	// with the branch: for checks against a reference.
	Trace func(branch int, name string, t engine.Tensor) error
}

// Pass is a model made ready for one size, a few prompts, and the times of all steps.
type Pass struct {
	model    *Model
	size     Size
	arena    *engine.Arena
	branches []*branch
	work     workspace
	tracer   func(branch int, name string, t engine.Tensor) error
}

// branch is one prompt's state.
type branch struct {
	mask engine.Tensor
	ctx  engine.Tensor         // text stream as operand, [L, D]
	at   map[float32]condition // by time
	v    stream                // visual stream, F32 [N, D]
	out  engine.Tensor         // velocity, F32 [T, H, W, C]
}

// NewPass takes the prompts through the text blocks, at all times, and allocates activations. Errors are a
// *memory.BudgetError, name a tensor of a text block that cannot be read, or say which size does not fit the model.
func (m *Model) NewPass(ctx context.Context, o PassOptions) (*Pass, error) {
	if err := m.check(o); err != nil {
		return nil, err
	}
	p := &Pass{model: m, size: o.Size, tracer: o.Trace, arena: m.device.NewArena("denoise")}
	if err := p.init(ctx, o); err != nil {
		return nil, oneline.Join(err, p.Close())
	}
	return p, nil
}

func (m *Model) check(o PassOptions) error {
	for k, prompt := range o.Prompts {
		if prompt.Text.Dim(-1) != m.Config.InTextDim || len(prompt.Pooled) != m.Config.InTextDim2 {
			return fmt.Errorf("prompt %d: text of width %d and pooled of %d, the model wants %d and %d", k, prompt.Text.Dim(-1), len(prompt.Pooled), m.Config.InTextDim, m.Config.InTextDim2)
		}
	}
	return m.checkSize(o.Size)
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

// init does what comes before the first step. The tensors of the text blocks are given back before those of the visual
// blocks are allocated.
func (p *Pass) init(ctx context.Context, o PassOptions) error {
	m := p.model
	times, longest := distinct(o.Times), 0
	for _, prompt := range o.Prompts {
		longest = max(longest, rows(prompt.Text))
		b, err := p.newBranch(prompt, times)
		if err != nil {
			return err
		}
		p.branches = append(p.branches, b)
	}
	if err := p.conditions(ctx, o.Prompts, times); err != nil {
		return err
	}
	if err := m.device.Compute().Finish(ctx); err != nil {
		return err
	}
	p.work.alloc(p.arena, m, p.size, longest)
	for _, b := range p.branches {
		t := allocAll(p.arena, m.Config.visualBuffers(p.size, m.device.Caps().MaxAllocation))
		b.v, b.out = t.stream(), t["velocity"]
	}
	if err := p.arena.Err(); err != nil {
		return err
	}
	if err := p.rotations(ctx); err != nil {
		return err
	}
	return m.device.Compute().Finish(ctx)
}

// newBranch allocates what a branch has from the start.
func (p *Pass) newBranch(prompt Prompt, times []float32) (*branch, error) {
	m := p.model
	t := allocAll(p.arena, m.Config.branchBuffers(m.act, rows(prompt.Text), !prompt.Mask.IsZero()))
	b := &branch{mask: t["text mask"], ctx: t["text context"], at: map[float32]condition{}}
	for _, time := range times {
		b.at[time] = condition{act: m.Config.actBuffer().Alloc(p.arena)}
	}
	if err := p.arena.Err(); err != nil {
		return nil, err
	}
	s := m.device.Compute()
	if !prompt.Mask.IsZero() {
		s.Copy(b.mask, prompt.Mask.Reshape(rows(prompt.Text)))
	}
	return b, s.Err()
}

// rotations uploads the rotations of visual tokens in the order of the tokens.
func (p *Pass) rotations(ctx context.Context) error {
	m := p.model
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

// Close frees the activations.
func (p *Pass) Close() error {
	p.arena.Release()
	return nil
}

func rows(t engine.Tensor) int { return int(t.Elems()) / t.Dim(-1) }

func (p *Pass) trace(branch int, name string, t engine.Tensor) error {
	if p.tracer == nil {
		return nil
	}
	return p.tracer(branch, name, t)
}

// traceStream traces a stream, put together in one piece.
func (p *Pass) traceStream(branch int, name string, s stream) error {
	if p.tracer == nil {
		return nil
	}
	if len(s) == 1 {
		return p.tracer(branch, name, s[0])
	}
	d := p.model.device
	whole, err := d.Alloc("traced "+name, engine.F32, s.rows(), s[0].Dim(1))
	if err != nil {
		return err
	}
	defer d.Free(whole)
	s.each(func(piece engine.Tensor, from, to int) { d.Compute().Copy(whole.Rows(from, to), piece) })
	return p.tracer(branch, name, whole)
}

// params is shorthand for a linear layer of a group.
type params struct{ load.Params }

func (p params) linear(name string) (w, b engine.Tensor) {
	b, _ = p.Maybe(name + ".bias")
	return p.Get(name + ".weight"), b
}
