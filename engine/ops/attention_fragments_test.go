package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// openFragments opens a device with fragments: its own where it has them, else emulated ones.
func openFragments(t *testing.T, limits engine.TestLimits) *engine.Device {
	t.Helper()
	d := enginetest.OpenWith(t, engine.Options{Limits: limits})
	if d.Caps().Fragments == engine.MatrixFragments {
		return d
	}
	limits.EmulateFragments = true
	return enginetest.OpenWith(t, engine.Options{Limits: limits})
}

// fragmentCase is an attention that fragments can compute.
func fragmentCase(t *testing.T, a *engine.Arena, d *engine.Device, seed uint64, s attentionShape) *attentionCase {
	t.Helper()
	s.q, s.k, s.v, s.dim = engine.BF16, engine.BF16, engine.BF16, fragmentHead
	c := newAttentionCase(t, a, d, rand.New(rand.NewPCG(31, seed)), s)
	c.args.Half, c.args.Consume = true, true
	return c
}

func TestAttentionByFragmentsMatchesReference(t *testing.T) {
	d := openFragments(t, engine.TestLimits{})
	all := len(attentionFragmentTiles)
	for n, tt := range []struct {
		mode string
		attentionShape
		tiles int // of the list: every one is a pipeline more, which drivers for the CPU take seconds for
	}{
		{"full", attentionShape{heads: 1, tq: 16, tk: 16, out: engine.F32}, 1},
		{"full", attentionShape{heads: 4, kvHeads: 2, tq: 48, tk: 80, out: engine.BF16, outHeads: 6, outHead: 1}, all},
		{"full", attentionShape{heads: 1, tq: 272, tk: 144, out: engine.F16, size: 1.5}, 2},
		{"blocks", attentionShape{heads: 2, kvHeads: 2, tq: 192, tk: 192, out: engine.BF16}, all},
	} {
		for _, f := range attentionFragmentTiles[:tt.tiles] {
			name := fmt.Sprintf("%s, %d and %d tokens, %s", tt.mode, tt.tq, tt.tk, f.name())
			mode := map[string]AttentionMode{"full": AttentionFull, "blocks": AttentionBlocks}[tt.mode]
			if !f.fits(d.Caps(), mode) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				arena := d.NewArena("fragments")
				defer arena.Release()
				c := fragmentCase(t, arena, d, uint64(n), tt.attentionShape)
				attentionModes[tt.mode](t, arena, d, rand.New(rand.NewPCG(32, uint64(n))), c)
				f.variant = attentionFragmentShader(d.Caps())
				c.args.record(d.Compute(), c.args.check(), f)
				c.check(t, d)
			})
		}
	}
}

// The shift is the maximum of the first keys. Scores of later ones may exceed it by more than weights have room for, in the rows of one
// subgroup alone; 90 and 600 powers of two are within that room and beyond it.
func TestAttentionByFragmentsBeginsAnewWhenScoresGrow(t *testing.T) {
	d := openFragments(t, engine.TestLimits{})
	for _, grow := range []float32{62, 416} {
		t.Run(fmt.Sprintf("by %v", grow), func(t *testing.T) {
			arena := d.NewArena("growing scores")
			defer arena.Release()
			c := fragmentCase(t, arena, d, 1, attentionShape{heads: 1, tq: 64, tk: 96, out: engine.F32, size: 0.5})
			c.size = 5 // the result of one query is one value, times a single weight rounded to 2⁻⁹ of itself
			c.ref.Q = firstChannel(t, d, c.args.Q, c.ref.Q, func(i int) float32 {
				if i == 37 {
					return 8
				}
				return 0
			})
			c.ref.K = firstChannel(t, d, c.args.K, c.ref.K, func(j int) float32 {
				if j == 90 {
					return grow * 1.4142 // 8·1.4142/√128 = 1
				}
				return 0
			})
			f := attentionFragments{subs: 2, frags: 2, keys: 32}
			f.variant = attentionFragmentShader(d.Caps())
			c.args.record(d.Compute(), c.args.check(), f)
			c.check(t, d)
		})
	}
}

func TestAttentionByFragmentsIsTheSameForEveryCut(t *testing.T) {
	shape := attentionShape{heads: 3, kvHeads: 3, tq: 320, tk: 64, out: engine.BF16}
	var first []float64
	for _, limits := range []engine.TestLimits{{}, {MaxDispatchCost: 4 * 64 * 128 * 128}, {MaxStorageRange: 200 << 10}} {
		d := openFragments(t, limits)
		arena := d.NewArena("cuts")
		c := fragmentCase(t, arena, d, 3, shape)
		Attention(d.Compute(), c.args)
		if err := d.Compute().Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := attentionDownload(t, d, c.args.Out)
		if first == nil {
			first = got
			c.check(t, d)
		}
		if !slices.Equal(got, first) {
			t.Errorf("other bits within %+v", limits)
		}
		arena.Release()
	}
}

func TestAttentionTakesFragmentsOnlyWhereTheyFit(t *testing.T) {
	d := openFragments(t, engine.TestLimits{})
	arena := d.NewArena("choice")
	defer arena.Release()
	for name, change := range map[string]func(a *AttentionArgs){
		"as it is":                  func(*AttentionArgs) {},
		"operands are needed later": func(a *AttentionArgs) { a.Consume = false },
		"not 16-bit":                func(a *AttentionArgs) { a.Half = false },
		"tokens are no multiple of 16": func(a *AttentionArgs) {
			a.K, a.V = arena.Alloc("k", engine.BF16, 1, 20, 128), arena.Alloc("v", engine.BF16, 1, 20, 128)
		},
		"keys are masked": func(a *AttentionArgs) { a.Mask = arena.Alloc("mask", engine.U32, 32) },
		"causal":          func(a *AttentionArgs) { a.Mode = AttentionCausal },
	} {
		t.Run(name, func(t *testing.T) {
			a := fragmentCase(t, arena, d, 5, attentionShape{heads: 1, tq: 32, tk: 32, out: engine.BF16}).args
			change(&a)
			k, ok := a.chooseKernel(a.check(), d.Caps())
			if !ok {
				t.Fatal("no kernel computes it")
			}
			if _, got := k.(attentionFragments); got != (name == "as it is") {
				t.Errorf("the kernel is %s", k.name())
			}
		})
	}
}
