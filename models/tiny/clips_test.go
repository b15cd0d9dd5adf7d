package tiny

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/shapes"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// way is how a pipeline holds and computes the model.
type way struct {
	blocks    int // on the device; 0: all
	precision load.Precision
}

// maker makes clips on a device, with one pipeline for each way to hold the model, and remembers what it made.
type maker struct {
	device     *engine.Device
	checkpoint *kandinsky5.Checkpoint
	pipelines  map[way]*kandinsky5.Pipeline
	made       map[clipKey]*kandinsky5.Clip
}

type clipKey struct {
	way     way
	example example
}

func newMaker(t testing.TB) *maker {
	t.Helper()
	c, err := Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	open := enginetest.OpenPlain
	if os.Getenv(gridVariable) == "all" {
		open = enginetest.Open // by the kernels that the program takes
	}
	m := &maker{device: open(t), checkpoint: c, pipelines: map[way]*kandinsky5.Pipeline{}, made: map[clipKey]*kandinsky5.Clip{}}
	t.Cleanup(func() {
		for _, p := range m.pipelines {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

// swapping is how the clips of the grid are made: with two of the blocks on the device.
func swapping() way { return way{blocks: 2} }

func (m *maker) clip(t testing.TB, w way, e example) *kandinsky5.Clip {
	t.Helper()
	key := clipKey{w, e}
	if clip := m.made[key]; clip != nil {
		return clip
	}
	p := m.pipelines[w]
	if p == nil {
		var err error
		if p, err = kandinsky5.New(t.Context(), m.device, m.checkpoint, kandinsky5.Options{BlocksInMemory: w.blocks, Precision: w.precision}); err != nil {
			t.Fatal(err)
		}
		m.pipelines[w] = p
	}
	result, err := p.Generate(t.Context(), e.request())
	if err != nil {
		t.Fatal(err)
	}
	m.made[key] = result.Clip
	return result.Clip
}

// onGPU says whether many clips cost little.
func (m *maker) onGPU() bool { return m.device.Summary.Physical.Info.Kind == "discrete gpu" }

// gridVariable, set to "all", makes clips of the whole grid on a software driver too, where one takes ten seconds:
// make grid does.
const gridVariable = "VKANDINSKY_GRID"

// whole says whether the whole grid is to be made.
func (m *maker) whole() bool { return m.onGPU() || os.Getenv(gridVariable) == "all" }

// TestClips has one device for all its parts, which make clips of colours and motions that the model has never seen
// together: on a software driver a few of them, unless gridVariable asks for all.
func TestClips(t *testing.T) {
	m := newMaker(t)
	t.Run("captions never seen are followed", m.captionsAreFollowed)
	t.Run("block swapping changes no bit", m.swappingChangesNothing)
	t.Run("precisions agree within a pixel", m.precisionsAgree)
	t.Run("guidance is what it says", m.guidanceIsWhatItSays)
	if m.whole() {
		t.Run("guidance makes another clip", m.guidanceMakesAnotherClip)
	}
}

// fewClips are made where the whole grid is not: of every shape one, in both languages, of four colours and motions.
const fewClips = 4

// examples is the grid that there is time for: every pair three times on a GPU, once on a software driver that is to make
// all, else a few of them, and two with -short.
func (m *maker) examples(t *testing.T) []example {
	t.Helper()
	switch {
	case m.onGPU():
		return grid(t, 3, 64)
	case m.whole():
		return grid(t, 1, 64)
	case testing.Short():
		return grid(t, 1, 64)[:2]
	}
	return grid(t, 1, 64)[:fewClips]
}

func (m *maker) captionsAreFollowed(t *testing.T) {
	g := m.makeGrid(t, m.examples(t))
	t.Log(g)
	if all := len(g.examples); 10*g.right() < 9*all {
		t.Errorf("%d of %d clips show what their caption says, want 90 %%; the others:\n%s", g.right(), all, strings.Join(g.failures, "\n"))
	}
	for language, n := range g.asked {
		if 4*g.passed[language] < 3*n {
			t.Errorf("%s: %d of %d clips show what their caption says, want 75 %%", language, g.passed[language], n)
		}
	}
}

// judged is a grid of clips with the verdicts on them.
type judged struct {
	examples      []example
	paths         []shapes.Path
	passed, asked map[string]int // by language
	failures      []string
	took          time.Duration
}

func (g *judged) right() (n int) {
	for _, passed := range g.passed {
		n += passed
	}
	return n
}

func (g *judged) String() string {
	all := len(g.examples)
	return fmt.Sprintf("%d of %d clips show what the caption says (%v of %v), in %v a clip; judged by another clip's caption %s",
		g.right(), all, g.passed, g.asked, (g.took / time.Duration(all)).Round(time.Millisecond), chance(g.examples, g.paths))
}

// makeGrid makes and judges clips, and logs each verdict.
func (m *maker) makeGrid(t testing.TB, examples []example) *judged {
	g := &judged{examples: examples, passed: map[string]int{}, asked: map[string]int{}}
	begin := time.Now()
	for _, e := range examples {
		path := shapes.Track(m.clip(t, swapping(), e))
		v := path.Judge(e.Color, e.kind, e.Motion)
		t.Logf("%v: %v", e, v)
		language := "English"
		if e.caption[0] >= 0x80 {
			language = "Russian"
		}
		g.paths = append(g.paths, path)
		g.asked[language]++
		if v.OK() {
			g.passed[language]++
		} else {
			g.failures = append(g.failures, e.String()+": "+v.String())
		}
	}
	g.took = time.Since(begin)
	return g
}

// BenchmarkHeldOut makes the whole grid once, without the validation layer, and reports how many clips are right; and
// that of other settings where a GPU makes them cheap.
func BenchmarkHeldOut(b *testing.B) {
	type setting struct {
		name     string
		side     int
		steps    int
		guidance float64
	}
	settings := []setting{{"as configured", 64, 0, 0}}
	if newMaker(b).onGPU() {
		settings = append(settings, setting{"128 pixels", 128, 0, 0}, setting{"6 steps", 64, 6, 0}, setting{"8 steps", 64, 8, 0},
			setting{"10 steps", 64, 10, 0}, setting{"24 steps", 64, 24, 0}, setting{"guidance 1", 64, 0, 1}, setting{"guidance 3", 64, 0, 3},
			setting{"guidance 5", 64, 0, 5})
	}
	for _, s := range settings {
		b.Run(s.name, func(b *testing.B) {
			m := newMaker(b)
			for b.Loop() {
				clear(m.made)
				examples := grid(b, 3, s.side)
				for k := range examples {
					examples[k].steps, examples[k].guidance = s.steps, s.guidance
				}
				g := m.makeGrid(b, examples)
				b.Log(g)
				b.ReportMetric(100*float64(g.right())/float64(len(examples)), "%right")
				b.ReportMetric(g.took.Seconds()/float64(len(examples)), "s/clip")
			}
		})
	}
}

// chance judges every clip by every other clip's caption: what a model that does not read would reach.
func chance(examples []example, paths []shapes.Path) string {
	right, motions, all := 0, 0, 0
	for i, p := range paths {
		for j, e := range examples {
			if i == j {
				continue
			}
			all++
			if p.Judge(e.Color, examples[i].kind, e.Motion).OK() {
				right++
			}
			if p.Judge(examples[i].Color, examples[i].kind, e.Motion).OK() {
				motions++
			}
		}
	}
	n := max(float64(all), 1) / 100
	return fmt.Sprintf("%.1f %% would pass, by the motion alone %.1f %%", float64(right)/n, float64(motions)/n)
}

// swappingChangesNothing holds the blocks in other ways than the grid does.
func (m *maker) swappingChangesNothing(t *testing.T) {
	e := m.cheap(t)
	want := m.clip(t, swapping(), e).Pix
	for _, blocks := range []int{1, 0} {
		if got := m.clip(t, way{blocks: blocks}, e).Pix; !bytes.Equal(got, want) {
			t.Errorf("with %d blocks on the device (0: all) the frames differ from those with 2", blocks)
		}
	}
}

// cheap is an example for tests of bits, which need no picture that a model understands: on a software driver it is
// smaller than any in the training.
func (m *maker) cheap(t *testing.T) example {
	t.Helper()
	if m.onGPU() {
		return grid(t, 1, 64)[0]
	}
	e := grid(t, 1, 32)[0]
	e.steps = 3
	return e
}

func (m *maker) precisionsAgree(t *testing.T) {
	e := grid(t, 1, 64)[0]
	if !m.whole() {
		e.steps = 6 // enough for a picture that a model understands
	}
	mixed := shapes.Track(m.clip(t, swapping(), e))
	exact := shapes.Track(m.clip(t, way{2, load.Float32}, e))
	worst := 0.0
	for k := range exact.Frames {
		worst = max(worst, math.Hypot(mixed.Frames[k].X-exact.Frames[k].X, mixed.Frames[k].Y-exact.Frames[k].Y))
	}
	t.Logf("%v: centroids differ by at most %.2f pixels", e, worst)
	if !(worst <= 1) || exact.Lost > 0 {
		t.Errorf("mixed and f32 differ by %.2f pixels in a frame (lost in %d frames of f32)", worst, exact.Lost)
	}
}

// guidanceIsWhatItSays checks the law v = negative + weight · (prompt − negative) where it is exact.
func (m *maker) guidanceIsWhatItSays(t *testing.T) {
	with := func(weight float64, prompt, negative string) []byte {
		e := m.cheap(t)
		e.guidance, e.caption, e.negative = weight, prompt, negative
		return m.clip(t, swapping(), e).Pix
	}
	const a, b = "a red circle moves to the right", "синий квадрат растёт"
	plain := with(1, a, "")
	for _, c := range []struct {
		name             string
		weight           float64
		prompt, negative string
		same             bool
	}{
		{"1 leaves the negative prompt out", 1, a, b, true},
		{"5 does not", 5, a, b, false},
		{"5 against the prompt itself is 1", 5, a, a, true},
		{"next to 0 is the negative prompt alone", 1e-30, b, a, true},
	} {
		if got := with(c.weight, c.prompt, c.negative); bytes.Equal(got, plain) != c.same {
			t.Errorf("guidance %s: the same frames as with guidance 1 and no negative prompt: %v, want %v", c.name, !c.same, c.same)
		}
	}
}

// guidanceMakesAnotherClip compares clips with and without guidance and logs how many are right: this model is at its best
// with little (docs/tiny-model.md).
func (m *maker) guidanceMakesAnotherClip(t *testing.T) {
	examples := m.examples(t)
	if !m.onGPU() {
		examples = examples[:2]
	}
	right := map[float64]int{}
	least := math.Inf(1)
	for _, e := range examples {
		var clips [2]*kandinsky5.Clip
		for k, weight := range []float64{1, 5} {
			if e.guidance = weight; weight == m.checkpoint.Config.Model.GuidanceWeight {
				e.guidance = 0 // as the grid has it
			}
			clips[k] = m.clip(t, swapping(), e)
			v := shapes.Track(clips[k]).Judge(e.Color, e.kind, e.Motion)
			t.Logf("%v, guidance %g: %v", e, weight, v)
			if v.OK() {
				right[weight]++
			}
		}
		least = min(least, meanDifference(clips[0], clips[1]))
	}
	t.Logf("of %d clips %d are right with guidance 1, %d with 5; their frames differ by at least %.2f levels", len(examples), right[1], right[5], least)
	if !(least > 0.1) {
		t.Errorf("with guidance 1 and 5 the frames differ by %.3f levels", least)
	}
}

func meanDifference(a, b *kandinsky5.Clip) float64 {
	sum := 0.0
	for k := range a.Pix {
		sum += math.Abs(float64(a.Pix[k]) - float64(b.Pix[k]))
	}
	return sum / float64(len(a.Pix))
}
