package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// Every way is right, is the one that a choice of its name puts in force, and is told from all others by its name.
func TestEveryWayOfAnAttentionMatchesReference(t *testing.T) {
	d := enginetest.Open(t) // one of its own: its tuning is changed
	for n, tt := range []struct {
		mode string
		attentionShape
	}{ // few channels: drivers that emulate matrices are slow to compile many
		{"blocks", attentionShape{heads: 2, kvHeads: 2, tq: 192, tk: 192, dim: 32, out: engine.BF16}},
		{"full", attentionShape{heads: 2, kvHeads: 1, tq: 70, tk: 90, dim: 32, q: engine.F16, k: engine.F16, v: engine.F16}},
		{"masked", attentionShape{heads: 1, tq: 9, tk: 70, dim: 160}},
	} {
		for _, half := range attentionHalves(d) {
			arena := d.NewArena("attention ways")
			defer arena.Release()
			rng := rand.New(rand.NewPCG(11, uint64(n)))
			c := newAttentionCase(t, arena, d, rng, tt.attentionShape)
			attentionModes[tt.mode](t, arena, d, rng, c)
			c.args.Half = half
			checkAttentionWays(t, d, c, fmt.Sprintf("%s, %d channels, half %v", tt.mode, tt.dim, half))
		}
	}
}

func checkAttentionWays(t *testing.T, d *engine.Device, c *attentionCase, name string) {
	z, caps := c.args.check(), d.Caps()
	byDefault, ok := c.args.chooseKernel(z, caps)
	if !ok {
		t.Fatal("no kernel computes it")
	}
	o := c.args.operation(z, caps, byDefault)
	if len(o.Ways) == 0 || o.Ways[0].Name != o.Default {
		t.Errorf("%s: the default %s is not the first of %v", name, o.Default, o.Ways)
	}
	if len(o.Ways) < 2 && (caps.Tier < engine.TierMatrix || caps.Tier == engine.TierMatrix2 && z.dim == 32) {
		t.Errorf("%s: the only way is %v", name, o.Ways)
	}
	guarded := make([]float32, len(c.before))
	for i, v := range c.before {
		guarded[i] = float32(v)
	}
	names := map[string]bool{}
	for _, way := range o.Ways {
		t.Run(name+", "+way.Name, func(t *testing.T) {
			if names[way.Name] || engine.CodeHash(way.Shader) == "" {
				t.Errorf("%+v is there twice, or has no shader", way)
			}
			names[way.Name] = true
			if k := c.args.take(z, caps, byDefault, way.Name); k.name() != way.Name {
				t.Errorf("the attention takes %s", k.name())
			}
			if err := d.UploadF32(t.Context(), c.guarded, guarded); err != nil {
				t.Fatal(err)
			}
			d.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Shader: way.Shader, Choice: way.Name})
			Attention(d.Compute(), c.args)
			c.check(t, d)
		})
	}
	if k := c.args.take(z, caps, byDefault, "nonsense"); k.name() != o.Default {
		t.Errorf("%s: for a name of no way it takes %s, want %s", name, k.name(), o.Default)
	}
}

func TestAnAttentionIsOfferedToTheExplorerBeforeItIsRecorded(t *testing.T) {
	d := enginetest.Open(t)
	arena := d.NewArena("attention ways")
	defer arena.Release()
	b := engine.BF16
	c := newAttentionCase(t, arena, d, rand.New(rand.NewPCG(12, 1)), attentionShape{heads: 4, kvHeads: 2, tq: 70, tk: 300, dim: 64, q: b, k: b, v: b})
	var seen []engine.Operation
	before := d.Compute().Counters().Dispatches
	d.Tuning().Explore(func(s *engine.Stream, o engine.Operation) {
		if s.Counters().Dispatches != before {
			t.Error("the attention was recorded before it was offered")
		}
		seen = append(seen, o)
		last := o.Ways[len(o.Ways)-1]
		o.Record(s, last.Name)
		d.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Shader: last.Shader, Choice: last.Name})
	})
	Attention(d.Compute(), c.args)
	d.Tuning().Explore(nil)
	Attention(d.Compute(), c.args)
	c.check(t, d)
	if len(seen) != 1 || seen[0].Kernel != "attention" || seen[0].Shape != "full bf16·bf16·bf16→f32 4/2 heads of 64, ≤96×384" || seen[0].Cost != 4*4*70*300*64 ||
		!slices.ContainsFunc(seen[0].Ways, func(w engine.Way) bool { return w.Name == seen[0].Default }) {
		t.Errorf("offered %+v", seen)
	}
}

// Tiles that only tuning takes never become a default: what is chosen without measuring has been measured before.
func TestDefaultsOfAttentionOnALargeDevice(t *testing.T) {
	caps := engine.Caps{Tier: engine.TierMatrix2, SubgroupSize: 32, MaxSharedBytes: 48 << 10, MaxInvocations: 1024}
	square := engine.MatrixShape{M: 16, N: 16, K: 16}
	caps.Matrix.F16, caps.Matrix2.F16 = square, []engine.FlexibleMatrices{{Granularity: square}}
	for _, tt := range []struct {
		tier engine.Tier
		mode AttentionMode
		want string
		ways int
	}{
		{engine.TierMatrix2, AttentionFull, "flexible 8x64", 13},
		{engine.TierMatrix2, AttentionBlocks, "flexible 4x32", 7},
		{engine.TierMatrix, AttentionFull, "matrix 4x2x2/32", 7},
		{engine.TierMatrix, AttentionBlocks, "matrix 2x2x2/64", 4},
	} {
		caps.Tier = tt.tier
		a := AttentionArgs{Mode: tt.mode, Half: true}
		z := attentionSizes{heads: 32, group: 1, tq: 4096, tk: 4096, dim: 128}
		if k, ok := a.chooseKernel(z, caps); !ok || k.name() != tt.want {
			t.Errorf("tier %v, %v: takes %s, want %s", tt.tier, tt.mode, k.name(), tt.want)
		}
		if got := len(a.ways(z, caps)); got != tt.ways {
			t.Errorf("tier %v, %v: %d ways, want %d", tt.tier, tt.mode, got, tt.ways)
		}
	}
}
