package ops

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// tunedLayer is a layer on a device of its own, whose tuning a test may change.
func tunedLayer(t *testing.T, half bool) (*engine.Device, MatmulArgs) {
	t.Helper()
	d := enginetest.Open(t)
	const m, n, k = 150, 140, 56
	arena := d.NewArena("tuned layer")
	t.Cleanup(arena.Release)
	rng := rand.New(rand.NewPCG(1, 2))
	x, _ := attentionInput(t, arena, d, rng, engine.BF16, 1, m, k)
	w, _ := attentionInput(t, arena, d, rng, engine.BF16, 1, n, k)
	y := arena.Alloc("y", engine.F32, m, n)
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	return d, MatmulArgs{X: x, W: w, Y: y, Half: half}
}

func halves(d *engine.Device) []bool {
	if d.Caps().HasFloat16 {
		return []bool{false, true}
	}
	return []bool{false}
}

func TestEveryWayOfALayerGivesTheSameBits(t *testing.T) {
	for _, half := range halves(enginetest.Open(t)) {
		t.Run(fmt.Sprintf("half %v", half), func(t *testing.T) {
			d, a := tunedLayer(t, half)
			m := a.check()
			m.plan(d.Caps())
			o := m.operation(d.Caps())
			Matmul(d.Compute(), a)
			want := attentionDownload(t, d, a.Y)
			if d.Caps().Tier < engine.TierMatrix && len(o.Ways) < 2 {
				t.Errorf("ways %v: the tests would compare nothing", o.Ways)
			}
			for _, way := range o.Ways {
				d.Compute().Fill(a.Y, 0x7fc00000)
				d.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Shader: way.Shader, Choice: way.Name})
				again := a.check()
				again.plan(d.Caps())
				again.take(d.Caps(), way.Name)
				if name := again.wayName(); name != way.Name {
					t.Errorf("the layer takes %s, want %s", name, way.Name)
				}
				Matmul(d.Compute(), a)
				if got := attentionDownload(t, d, a.Y); !slices.Equal(got, want) {
					t.Errorf("%s gives other bits than %s", way.Name, o.Default)
				}
			}
		})
	}
}

// wayName is the name of the way that a planned layer takes.
func (m *matmul) wayName() string {
	if m.matrix != nil {
		return m.matrix.tile.name()
	}
	return m.tile.name()
}

func TestALayerIsOfferedToTheExplorerBeforeItIsRecorded(t *testing.T) {
	d, a := tunedLayer(t, false)
	var seen []engine.Operation
	before := d.Compute().Counters().Dispatches
	d.Tuning().Explore(func(s *engine.Stream, o engine.Operation) {
		if s.Counters().Dispatches != before {
			t.Error("the layer was recorded before it was offered")
		}
		seen = append(seen, o)
		o.Record(s, o.Ways[0].Name)
		d.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Shader: o.Ways[0].Shader, Choice: o.Ways[0].Name})
	})
	Matmul(d.Compute(), a)
	if len(seen) != 1 || seen[0].Kernel != "matmul" || seen[0].Shape != "bf16·bf16→f32 ≤192×140×56" || seen[0].Cost != 2*150*140*56 ||
		!slices.ContainsFunc(seen[0].Ways, func(w engine.Way) bool { return w.Name == seen[0].Default && w.Shader != "" }) {
		t.Errorf("offered %+v", seen)
	}
	d.Tuning().Explore(nil)
	Matmul(d.Compute(), a)
	small := a
	small.X, small.Y = a.X.Rows(0, 4), a.Y.Rows(0, 4)
	Matmul(d.Compute(), small) // has one way
	if len(seen) != 1 {
		t.Errorf("%d operations were offered after the end", len(seen)-1)
	}
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAChoiceThatNamesNoWayIsAsNone(t *testing.T) {
	d, a := tunedLayer(t, false)
	m := a.check()
	m.plan(d.Caps())
	o := m.operation(d.Caps())
	m.take(d.Caps(), "1000x1000x1000/1x1")
	if m.wayName() != o.Default {
		t.Errorf("the layer takes %s, want %s", m.wayName(), o.Default)
	}
	d.Tuning().Set(engine.Tuned{Kernel: o.Kernel, Shape: o.Shape, Choice: "nonsense"})
	Matmul(d.Compute(), a)
	if err := d.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRowClasses(t *testing.T) {
	for rows, want := range map[int]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 6, 7: 8, 9: 12, 300: 384, 512: 512, 513: 768, 47616: 49152, 49152: 49152, 49153: 65536, 126976: 131072} {
		if got := rowClass(rows); got != want {
			t.Errorf("%d rows are of class %d, want %d", rows, got, want)
		}
	}
}
