package tiny

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/shapes"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// heldOut are the pairs of colour and motion that no clip of the training shows; the training wrote them beside its
// weights.
func heldOut(t testing.TB) []pair {
	t.Helper()
	data, err := files.ReadFile("checkpoint/holdout.json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Pairs []pair `json:"held_out"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Pairs {
		if _, ok := shapes.Named(shapes.Colors(), p.Color); !ok || !slices.Contains(shapes.Motions(), p.Motion) {
			t.Fatalf("a held-out pair is %+v", p)
		}
	}
	if len(list.Pairs) < 12 {
		t.Fatalf("%d held-out pairs", len(list.Pairs))
	}
	return list.Pairs
}

type pair struct {
	Color  string        `json:"color"`
	Motion shapes.Motion `json:"motion"`
}

// example is a clip to make and what it must show.
type example struct {
	pair
	kind    shapes.Kind
	figure  shapes.Figure // in the first frame
	caption string
	seed    uint64
	side    int // pixels
	// Not the configuration's, where not zero; a negative prompt is one that guidance 0 or 5 moves away from.
	steps    int
	guidance float64
	negative string
}

func (e example) String() string { return fmt.Sprintf("%q, seed %d", e.caption, e.seed) }

// request asks for the clip from a first frame of its own.
func (e example) request() kandinsky5.Request {
	r := kandinsky5.Request{Prompt: e.caption, Image: e.figure.Draw(e.side, e.side), Width: e.side, Height: e.side, Seconds: 1,
		Steps: e.steps, Guidance: e.guidance, SchedulerScale: 5, Seed: e.seed}
	if e.negative != "" {
		r.NegativePrompt = &e.negative
	}
	return r
}

// grid makes examples of held-out pairs: every pair in each of some variants, which differ in shape, background, place
// and seed. Every other one is captioned in Russian.
func grid(t testing.TB, variants, side int) []example {
	t.Helper()
	rng := rand.New(rand.NewPCG(20, 26))
	var out []example
	for v := range variants {
		for i, p := range heldOut(t) {
			e := example{pair: p, kind: shapes.Kinds()[(i+v)%4], seed: uint64(1000*v + i), side: side}
			e.figure = shapes.Start(p.Motion, 2*rng.Float64()-1, 2*rng.Float64()-1, side, side)
			color, _ := shapes.Named(shapes.Colors(), p.Color)
			background := shapes.Backgrounds()[(i+v)%4]
			for k := 1; !shapes.Distinct(p.Color, background.Name); k++ {
				background = shapes.Backgrounds()[(i+v+k)%4]
			}
			e.figure.Kind, e.figure.Color, e.figure.Background = e.kind, color.RGB, background.RGB
			e.caption = shapes.Caption(p.Color, e.kind, p.Motion)
			if (i+v)%2 == 1 {
				e.caption = shapes.CaptionRU(p.Color, e.kind, p.Motion)
			}
			out = append(out, e)
		}
	}
	return out
}
