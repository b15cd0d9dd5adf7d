package kandinsky5

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// Packed operands are taken where kernels and memory allow them, and given up before blocks and whole heads are.
func TestPlansPackOperandsWhereTheyFit(t *testing.T) {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	plan := func(fragments bool, budget int64, o Options) *MemoryPlan {
		t.Helper()
		o.QuantizeQwen = true // so that denoising takes the most
		p, err := PlanRun(config, nil, o, Request{Seconds: 5, Width: 768, Height: 512}, PlanLimits{Device: budget, Host: 64 << 30, Half: true, Fragments: fragments})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	two := Options{BlocksInMemory: 2}
	denoise := func(p *MemoryPlan) int64 { return p.Stage(StageDenoise).Device }
	without, with := plan(false, 24<<30, two), plan(true, 24<<30, two)
	extra := denoise(with) - denoise(without)
	if without.Choice.Packed || !with.Choice.Packed || extra < 330<<20 || extra > 420<<20 {
		t.Errorf("packed: %v without fragments, %v with, for %d bytes", without.Choice.Packed, with.Choice.Packed, extra)
	}
	if p := plan(true, 24<<30, Options{BlocksInMemory: 2, Linear: load.LinearInt8}); p.Choice.Packed {
		t.Error("operands of int8 layers are packed")
	}
	short := plan(true, denoise(with)-1, Options{Auto: true})
	if c := short.Choice; !short.Fits || c.Packed || c.BlocksInMemory != 2 || c.HeadGroups != 1 || denoise(short) != denoise(without) {
		t.Errorf("a byte less than packed operands need leads to %+v, %d bytes", c, denoise(short))
	}
	if c := plan(true, denoise(with), Options{Auto: true}).Choice; !c.Packed || c.BlocksInMemory != 2 {
		t.Errorf("just enough for packed operands leads to %+v", c)
	}
}
