package kandinsky5

import (
	"bytes"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/swap"
)

// What a transformer that was kept has pinned is not taken by somebody else: the next clip's plan leaves it where it is, here with
// three of eight blocks pinned, as many as there is room for beside the ring.
func TestASecondClipFindsTheTransformerWhereItWaits(t *testing.T) {
	c := openSmall(t, smallModelOf(t, 8, 1))
	request, o := pictureRequest(), Options{Auto: true, BlocksInMemory: 2}
	request.Steps = 1
	plan, err := PlanRun(c.Config, c, o, request, PlanLimits{})
	if err != nil {
		t.Fatal(err)
	}
	const stagingOfUploads = 128 << 20
	loading := max(0, plan.Stage(StageDenoise).Pinned-stagingOfUploads-8*plan.BlockBytes) // a text block
	d := enginetest.OpenWith(t, engine.Options{HostBudget: leastStaging + 64<<10 + loading + 5*plan.BlockBytes, Limits: engine.TestLimits{Chunk: 64 << 10}})
	p, err := New(t.Context(), d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for clip := range 2 {
		got, err := p.Generate(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if choice, n := got.Plan.Choice, got.Stats.Swap.PinnedBlocks; choice.HostTier != swap.Mixed || choice.PinnedBlocks != 3 || n != 3 {
			t.Errorf("clip %d: blocks wait in %s, %d planned to be pinned, %d were", clip, choice.HostTier, choice.PinnedBlocks, n)
		}
		loads := slices.ContainsFunc(got.Stats.Stages, func(s StageStats) bool { return s.Stage == StageLoad })
		if loads != (clip == 0) {
			t.Errorf("clip %d: the transformer was loaded: %v", clip, loads)
		}
		if clip == 0 {
			first = got.Clip.Pix
		} else if !bytes.Equal(got.Clip.Pix, first) {
			t.Errorf("clip %d: another picture", clip)
		}
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
