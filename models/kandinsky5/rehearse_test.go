package kandinsky5

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// TestARehearsalCompilesAllThatARunNeeds has runs of different kinds on devices of different limits.
func TestARehearsalCompilesAllThatARunNeeds(t *testing.T) {
	c := smallCheckpoint(t)
	cached := guidedRequest()
	cached.MagCache, cached.Steps = true, 6
	c.Config.MagRatios = []float64{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	small := engine.TestLimits{MaxAllocation: 4 << 20, MaxDispatchCost: 1e7, MaxStorageRange: 1 << 20, SingleQueue: true}
	for name, run := range map[string]struct {
		limits  engine.TestLimits
		opts    Options
		request Request
	}{
		"magcache":         {engine.TestLimits{}, Options{Offload: true, HostWeights: load.Int8Weights, BlocksInMemory: 1}, cached},
		"as planned, int8": {engine.TestLimits{EmulateFragments: true}, Options{Auto: true, Linear: load.LinearInt8, QuantizeQwen: true}, pictureRequest()},
		"a small device":   {small, Options{HeadGroups: 2, Precision: load.Float32}, pictureRequest()},
	} {
		t.Run(name, func(t *testing.T) {
			d := enginetest.OpenWith(t, engine.Options{Limits: run.limits})
			p, err := New(t.Context(), d, c, run.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			g, err := p.newRun(t.Context(), run.request)
			if err != nil {
				t.Fatal(err)
			}
			defer g.release()
			if err := g.choose(run.request); err != nil {
				t.Fatal(err)
			}
			used, calls := d.Mem.Map(), d.Compute().Counters()
			rehearsal := g.rehearse(t.Context())
			if err := rehearsal.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now := d.Compute().Counters(); now != calls || len(d.Mem.Map()) != len(used) {
				t.Errorf("the rehearsal has computed: %+v, before %+v, memory %v", now, calls, d.Mem.Map())
			}
			before := d.Pipelines()
			if before.Late != 0 || before.Made != rehearsal.Count() || before.Made == 0 {
				t.Errorf("%+v were made for a rehearsal of %d", before, rehearsal.Count())
			}
			if _, err := g.timedGenerate(t.Context()); err != nil {
				t.Fatal(err)
			}
			if late := d.Pipelines().Since(before); late.Made != 0 {
				t.Errorf("%d pipelines were not rehearsed", late.Made)
			}
			if used := d.Used(); len(used) == 0 {
				t.Error("no shader counts as used")
			}
		})
	}
}
