package kandinsky5

import (
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// TestARunThatWasNotPackedGoesOnSo plans the rest of a run that was begun without room for packed operands on a device with
// room: packing them now would change its bits.
func TestARunThatWasNotPackedGoesOnSo(t *testing.T) {
	for operands, want := range map[string]bool{"": false, receipt.PackedOperands: false, receipt.PlainOperands: true, "packed to step 3, then not packed": true, "not packed to step 3, then packed": false} {
		r := Request{Resume: &State{Step: 4, Rounding: receipt.Rounding{Operands: operands}}}
		if r.unpackedBefore() != want {
			t.Errorf("%q: unpacked is %v", operands, !want)
		}
	}
	if (Request{}).unpackedBefore() || (Request{Resume: &State{Rounding: receipt.Rounding{Operands: receipt.PlainOperands}}}).unpackedBefore() {
		t.Error("a run without steps is bound to what it has not computed")
	}
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPlanner(config, Options{BlocksInMemory: 2}, Request{Seconds: 5, Width: 768, Height: 512}, PlanLimits{Device: 24 << 30, Host: 64 << 30, Half: true, Fragments: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, unpacked := range []bool{false, true} {
		p.unpacked = unpacked
		if got := p.packings(); got[0] == unpacked {
			t.Errorf("with unpacked %v, packed operands are %v", unpacked, got)
		}
	}
}

func TestMatricesAreNamed(t *testing.T) {
	shape := engine.MatrixShape{M: 16, N: 16, K: 16}
	for want, c := range map[string]engine.Caps{
		"none":                                 {Tier: engine.TierFP16, Matrix: engine.MatrixCaps{BF16: shape}},
		"none, with emulated fragments":        {Tier: engine.TierBase, Fragments: engine.EmulatedFragments},
		"bf16→f32 16×16×16, with fragments":    {Tier: engine.TierMatrix, Matrix: engine.MatrixCaps{BF16: shape}, Fragments: engine.MatrixFragments},
		"f16→f32 16×16×16 and s8→s32 16×16×16": {Tier: engine.TierMatrix, Matrix: engine.MatrixCaps{F16: shape, I8: shape}},
	} {
		if got := matricesText(c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := matricesText(engine.Caps{Tier: engine.TierMatrix2}); !strings.Contains(got, "flexible") {
		t.Errorf("%q", got)
	}
	one, other := []engine.Tuned{{Kernel: "matmul", Shape: "a", Choice: "x"}}, []engine.Tuned{{Kernel: "matmul", Shape: "a", Choice: "y"}}
	if tunedText(nil) != "none" || tunedText(one) == tunedText(other) || !strings.HasPrefix(tunedText(one), "1, ") {
		t.Errorf("%q, %q", tunedText(one), tunedText(other))
	}
}

func TestStepsThatAreMadeArePredicted(t *testing.T) {
	for _, c := range []struct{ steps, stop, from, want int }{{50, 0, 0, 50}, {50, 10, 0, 10}, {50, 10, 4, 6}, {50, 0, 44, 6}, {50, 10, 20, 0}, {5, 9, 0, 5}} {
		p := &MemoryPlan{Settings: Settings{Steps: c.steps}, StopAfter: c.stop}
		if c.from > 0 {
			p.Settings.resume = &State{Step: c.from}
		}
		if got := p.StepsToMake(); got != c.want {
			t.Errorf("%+v: %d steps", c, got)
		}
	}
}
