package kandinsky5

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// plenty is a budget that holds all of the small model.
const plenty = 8 << 20

// plentyPinned is the same of pinned memory.
const plentyPinned = 48 << 20

// TestAutomaticPlans has one device for all its parts, which cuts memory so finely that the plans of a small model are judged to
// a percent.
func TestAutomaticPlans(t *testing.T) {
	c := openSmall(t, smallModelOf(t, 8, 3))
	var taken atomic.Int64
	faults := &engine.Faults{}
	d := enginetest.OpenPlainWith(t, engine.Options{DeviceBudget: plenty, HostBudget: plentyPinned, Faults: faults, Limits: engine.TestLimits{Chunk: 64 << 10, Taken: taken.Load}})
	for _, a := range autoCases() {
		t.Run(a.name, func(t *testing.T) { underManyBudgets(t, d, c, a, &taken) })
	}
	t.Run("other programs take memory", func(t *testing.T) { givesWay(t, d, c, &taken) })
	t.Run("pinned memory runs short", func(t *testing.T) { unpinned(t, d, c) })
	t.Run("refused allocations", func(t *testing.T) { refusedAllocations(t, d, c, faults) })
	t.Run("refused after some steps", func(t *testing.T) { continuesAfterRefusal(t, d, c, faults, &taken) })
	t.Run("too little for any plan", func(t *testing.T) { tooLittle(t, d, c, &taken) })
}

// Plans hold as well where a device allows as little as may be: no matrix units or fp16, one queue, small allocations, bindings and
// dispatches.
func TestAutomaticPlansOfASmallDevice(t *testing.T) {
	c := openSmall(t, smallModelOf(t, 8, 3))
	var taken atomic.Int64
	limits := smallerDevice(288 << 10)
	limits.Chunk, limits.Taken, limits.MaxDispatchCost = 64<<10, taken.Load, 1e6
	d := enginetest.OpenWith(t, engine.Options{Tier: engine.TierBase, DeviceBudget: plenty, HostBudget: plentyPinned, Limits: limits})
	request := pictureRequest()
	request.NegativePrompt = &request.Prompt
	underManyBudgets(t, d, c, autoCase{"picture", request, Options{Auto: true}, 1, 2, 1}, &taken)
}

// autoCase is a request under some budgets.
type autoCase struct {
	name    string
	request Request
	options Options
	between int // budgets from the smallest that works to less than plenty
	blocks  int // different numbers of blocks that these lead to, at least
	tiles   int // and sizes of tiles
}

// autoCases differ in which stage takes the most memory.
func autoCases() []autoCase {
	picture := guidedRequest()
	picture.Steps, picture.Width, picture.Height = 1, 64, 64
	clip := pictureRequest()
	clip.Seconds = 1
	for _, r := range []*Request{&picture, &clip} {
		r.NegativePrompt = &r.Prompt // as long as the prompt: plans count the longest for both
	}
	return []autoCase{{"picture", picture, Options{Auto: true, Offload: true}, 3, 3, 2}, {"clip beside the transformer", clip, Options{Auto: true, HeadGroups: 2}, 0, 1, 1}}
}

// budgets are from the smallest that works to plenty.
func budgets(t *testing.T, p *Pipeline, c autoCase) []int64 {
	t.Helper()
	limits := LimitsOf(p.device, p.opts)
	limits.Device = 1
	least, err := p.planWithin(c.request, limits)
	if err != nil {
		t.Fatal(err)
	}
	limits.Device = 0
	most, err := p.planWithin(c.request, limits)
	if err != nil {
		t.Fatal(err)
	}
	if least.Fits || least.Least < 1<<20 || most.Device < least.Least*5/4 || most.Device > plenty {
		t.Fatalf("the smallest budget is %d, all takes %d", least.Least, most.Device)
	}
	list := []int64{most.Device}
	for k := range c.between {
		list = append(list, least.Least+(most.Device-least.Least)*int64(k)/int64(c.between))
	}
	return list
}

// Every automatic plan is carried out: it stays below its budget, takes what was planned, and the picture follows from the
// tiles alone.
func underManyBudgets(t *testing.T, d *engine.Device, c *Checkpoint, a autoCase, taken *atomic.Int64) {
	p, err := New(t.Context(), d, c, a.options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		taken.Store(0)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	blocks, pictures := map[int]bool{}, map[[2]int][]byte{}
	for _, budget := range budgets(t, p, a) {
		taken.Store(plenty - budget)
		result, err := p.Generate(t.Context(), a.request)
		if err != nil {
			t.Fatalf("%d bytes: %v", budget, err)
		}
		checkPeaks(t, budget, result)
		choice := result.Plan.Choice
		blocks[choice.BlocksInMemory] = true
		if first := pictures[choice.Tile]; first == nil {
			pictures[choice.Tile] = result.Clip.Pix
		} else if !bytes.Equal(first, result.Clip.Pix) {
			t.Errorf("%d bytes: the picture differs from another budget's with the same tiles: %+v", budget, choice)
		}
	}
	if len(blocks) < a.blocks || len(pictures) < a.tiles {
		t.Errorf("the budgets lead to blocks in memory %v and to %d sizes of tiles", blocks, len(pictures))
	}
}

// checkPeaks compares what was planned with what was taken, stage by stage.
func checkPeaks(t *testing.T, budget int64, r *Result) {
	t.Helper()
	near := func(what string, planned, took int64) {
		if ratio := float64(planned) / float64(took); ratio < 0.98 || ratio > 1.02 {
			t.Errorf("%d bytes, %s: planned %d, took %d: %+v", budget, what, planned, took, r.Plan.Choice)
		}
	}
	near("all", r.Plan.Device, r.Stats.PeakDevice)
	if r.Plan.Device > budget || r.Stats.PeakDevice > budget {
		t.Errorf("%d bytes: planned %d, took %d", budget, r.Plan.Device, r.Stats.PeakDevice)
	}
	for _, s := range r.Stats.Stages {
		if planned := r.Plan.Stage(s.Stage); planned != nil {
			near(string(s.Stage), planned.Device, s.PeakDevice)
		}
	}
}
