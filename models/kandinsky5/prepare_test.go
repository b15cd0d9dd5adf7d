package kandinsky5

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// TestPreparedRequestsGiveTheBitsOfRunsAlone compares every stage by its digest.
func TestPreparedRequestsGiveTheBitsOfRunsAlone(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	first, second := pictureRequest(), pictureRequest()
	first.Guidance, second.Guidance = 4, 4
	first.ExpandPrompt = true
	second.Prompt, second.Seed = "a longer prompt about a blue circle that stands still", 8
	requests := []Request{first, second}
	o := few
	o.BlocksInMemory = 2
	p, err := New(t.Context(), d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var stages []Stage
	prepared, err := p.Prepare(t.Context(), len(requests), func(k int) (Request, error) {
		r := requests[k]
		r.Progress = func(p Progress) {
			if n := len(stages); n == 0 || stages[n-1] != p.Stage {
				stages = append(stages, p.Stage)
			}
		}
		return r, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(stages, []Stage{StageExpand, StageText}) {
		t.Errorf("stages %v, want each once", stages)
	}
	if prepared[0].rows[1] != prepared[1].rows[1] {
		t.Error("the negative prompt was encoded twice")
	}
	for k, r := range requests {
		r.Digests = true
		alone := generate(t, d, c, few, r)
		r.Prepared = prepared[k]
		got, err := p.Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(alone.Digests, got.Digests); diff != "" || got.Settings.ExpandedPrompt != alone.Settings.ExpandedPrompt {
			t.Errorf("request %d: expanded %q and alone %q, digests %s", k, got.Settings.ExpandedPrompt, alone.Settings.ExpandedPrompt, diff)
		}
		if got.Stats.Swap.Accesses != alone.Stats.Swap.Accesses || got.Stats.Swap.Accesses == 0 {
			t.Errorf("request %d: %d uses of blocks, alone %d", k, got.Stats.Swap.Accesses, alone.Stats.Swap.Accesses)
		}
		if loads := slices.ContainsFunc(got.Stats.Stages, func(s StageStats) bool { return s.Stage == StageLoad }); loads != (k == 0) {
			t.Errorf("request %d: the transformer was loaded: %v", k, loads)
		}
	}
	other := first
	other.Prepared = prepared[1]
	if _, err := p.Generate(t.Context(), other); !errors.Is(err, ErrRequest) {
		t.Errorf("another request's prompts: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = p.Prepare(ctx, 2, func(k int) (Request, error) {
		r := requests[k]
		r.Progress = func(Progress) { cancel() }
		return r, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
}

// TestAnEarlierClipMakesRoomForThePicture runs with a budget that holds either the transformer or the encoder.
func TestAnEarlierClipMakesRoomForThePicture(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	r := pictureRequest()
	settings, err := Resolve(c.Config, r)
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(t.Context(), d, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	g := &run{Pipeline: p, settings: settings, arena: d.NewArena("clip")}
	defer g.arena.Release()
	if err := g.loadTransformer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.roomFor(1); err != nil || g.dit == nil {
		t.Fatalf("room for a byte: %v, transformer %v", err, g.dit)
	}
	if err := g.roomFor(1 << 60); err != nil || g.Pipeline.dit != nil {
		t.Errorf("room for everything: %v, transformer %v", err, g.dit)
	}
}
