package kandinsky5

import (
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Rounded blocks wait in pinned memory or not at all: rounding them again for every pass would take longer than the pass.
func TestRoundedBlocksDoNotWaitInTheFile(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	for name, o := range map[string]Options{
		"--host-weights":     {Linear: load.LinearInt8, HostWeights: load.Int8Weights},
		"--host-tier mapped": {Linear: load.LinearInt8, BlocksInMemory: 1, HostTier: swap.Mapped},
		"--precision f32":    {Linear: load.LinearInt8, Precision: load.Float32},
		"--attention-engine": {Attention: load.AttentionSage, Precision: load.Float32},
	} {
		if p, err := New(t.Context(), d, c, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: error %v", o, err)
			if err == nil {
				p.Close()
			}
		}
		if _, err := PlanRun(c.Config, c, o, smallRequest(), DeviceLimits(d.Caps())); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("plan of %+v: error %v", o, err)
		}
	}
	p, err := New(t.Context(), d, c, Options{Linear: load.LinearInt8, BlocksInMemory: 1, HostMemory: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Generate(t.Context(), smallRequest()); err == nil || !strings.Contains(err.Error(), "rounded to int8") || !strings.Contains(err.Error(), "4.0 KiB are free") {
		t.Errorf("too little pinned memory: error %v", err)
	}
}
