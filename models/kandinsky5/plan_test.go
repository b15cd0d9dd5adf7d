package kandinsky5

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/swap"
)

func TestPlanOfTheLargeModelNeedsNoDevice(t *testing.T) {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	request := Request{Seconds: 5, Width: 768, Height: 512}
	plan, err := PlanRun(config, nil, Options{BlocksInMemory: 2}, request, PlanLimits{Device: 24 << 30, Host: 64 << 30, Half: true})
	if err != nil {
		t.Fatal(err)
	}
	if plan.Settings.Geometry.Tokens != 47616 || plan.Swap.Slots != 2 {
		t.Errorf("plan is for %d tokens and %d slots", plan.Settings.Geometry.Tokens, plan.Swap.Slots)
	}
	if mib := float64(plan.BlockBytes) / (1 << 20); mib < 584 || mib > 585 {
		t.Errorf("a block has %.1f MiB, want 584", mib)
	}
	if !plan.Fits || plan.Device > 24<<30 {
		t.Errorf("two blocks do not fit 24 GiB: %d bytes", plan.Device)
	}
	all, err := PlanRun(config, nil, Options{}, request, PlanLimits{Device: 24 << 30, Half: true})
	if err != nil {
		t.Fatal(err)
	}
	if all.Fits || all.Advice == "" {
		t.Errorf("sixty blocks fit 24 GiB: %d bytes", all.Device)
	}
	small, err := PlanRun(config, nil, Options{BlocksInMemory: 2}, request, PlanLimits{Device: 24 << 30, Host: 16 << 30})
	if err != nil {
		t.Fatal(err)
	}
	if small.HostTier != swap.Mixed || !small.Fits {
		t.Errorf("with 16 GiB of host memory blocks wait in %q, fits: %v", small.HostTier, small.Fits)
	}
	// Sixteen GiB hold 28 blocks; two of these are the ring, and the rest is staging.
	if n := small.Choice.PinnedBlocks; n < 24 || n > 26 || small.Pinned > 16<<30 || small.Host.DiskPerStep/int64(60-n)>>20 != 584 {
		t.Errorf("with 16 GiB of host memory %d blocks are pinned, %d bytes in all, %d read in a step", n, small.Pinned, small.Host.DiskPerStep)
	}
	least, err := PlanRun(config, nil, Options{BlocksInMemory: 2}, request, PlanLimits{Device: 24 << 30, Host: 3 << 29})
	if err != nil {
		t.Fatal(err)
	}
	if least.HostTier != swap.Mapped || !least.Fits || least.Choice.PinnedBlocks != 0 {
		t.Errorf("with 1.5 GiB of host memory blocks wait in %q, fits: %v", least.HostTier, least.Fits)
	}
}

func TestPlanIsWhatARunTakes(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	adapter := smallAdapter(t, c, 1, "", "visual_transformer_blocks.0.feed_forward.in_layer", "visual_transformer_blocks.1.feed_forward.out_layer")
	for k, o := range []Options{{}, {BlocksInMemory: 2, Offload: true}, {BlocksInMemory: 1, HostTier: swap.Mapped}, {BlocksInMemory: 1, HostTier: swap.Mixed, PinnedBlocks: 2},
		{BlocksInMemory: 1, HostTier: swap.Mixed, PinnedBlocks: 1, HostWeights: load.CodedWeights, LoRA: []lora.Source{{Path: adapter, Weight: 1}}},
		{BlocksInMemory: 1, HostTier: swap.Mapped, adapters: dit.AdaptOnHost, LoRA: []lora.Source{{Path: adapter, Weight: 1}}}} {
		request := guidedRequest()
		if k == 0 {
			request = smallRequest()
		}
		limits := DeviceLimits(d.Caps())
		limits.Device, _ = d.Mem.Budget(memory.Device)
		plan, err := PlanRun(c.Config, c, o, request, limits)
		if err != nil {
			t.Fatal(err)
		}
		stats := generate(t, d, c, o, request).Stats
		if ratio := float64(plan.Device) / float64(stats.PeakDevice); ratio < 0.98 || ratio > 1.02 {
			t.Errorf("%+v: planned %d bytes, measured %d", o, plan.Device, stats.PeakDevice)
		}
		if ratio := float64(plan.Pinned) / float64(stats.PeakPinned); ratio < 0.98 || ratio > 1.02 {
			t.Errorf("%+v: planned %d bytes of pinned memory, measured %d", o, plan.Pinned, stats.PeakPinned)
		}
		if got := stats.Swap.PinnedBlocks; got != plan.Choice.PinnedBlocks {
			t.Errorf("%+v: planned %d pinned blocks, there were %d", o, plan.Choice.PinnedBlocks, got)
		}
	}
}

// With B, the time of a copy, a little above C, that of computing a block, slots to stream through can be worth more
// than resident blocks; where copies hide, or far beyond, they are not.
func TestKnownRatesDecideThroughHowManySlotsBlocksStream(t *testing.T) {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	const compute = 100e12
	plan := func(o Options, rates Rates) *MemoryPlan {
		p, err := PlanRun(config, nil, o, Request{Seconds: 0, Width: 512, Height: 512}, PlanLimits{Device: 8 << 30, Host: 64 << 30, Half: true, Rates: rates})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	unknown := plan(Options{Auto: true}, Rates{})
	if n := unknown.Choice.StreamSlots; n != 2 {
		t.Errorf("%d slots without rates, want 2", n)
	}
	block := unknown.StepWork / float64(unknown.Swap.Blocks) / compute // seconds
	more := 0
	for _, ratio := range []float64{0.2, 1.1, 1.2, 1.3, 1.7, 8} {
		rates := Rates{Compute: compute, Bus: float64(unknown.BlockBytes) / block / ratio}
		p := plan(Options{Auto: true}, rates)
		two := plan(Options{Auto: true, BlocksInMemory: p.Choice.BlocksInMemory, StreamSlots: 2}, rates)
		if p.Predict(rates).Waiting > two.Predict(rates).Waiting {
			t.Errorf("B = %g C: %d slots wait longer than 2", ratio, p.Choice.StreamSlots)
		}
		if p.Choice.StreamSlots > 2 {
			more++
		}
		if ratio < 1 && p.Choice.StreamSlots != 2 {
			t.Errorf("B = %g C: %d slots where nothing waits", ratio, p.Choice.StreamSlots)
		}
	}
	if more == 0 {
		t.Error("no rates lead to more slots")
	}
}
