package kandinsky5

import (
	"bytes"
	"errors"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/swap"
)

// throughFile writes a state and reads it back, as another process would.
func throughFile(t *testing.T, s *State) *State {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.state")
	if err := WriteState(path, s); err != nil {
		t.Fatal(err)
	}
	out, err := ReadState(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// statesOf runs a request to its last step, without decoding, and returns a state for every step.
func statesOf(t *testing.T, d *engine.Device, c *Checkpoint, o Options, r Request) []*State {
	t.Helper()
	p, err := New(t.Context(), d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	var states []*State
	r.AfterStep = func(f Finished) (Decision, error) {
		if states = append(states, f.State); f.Step == f.Steps {
			return Stop, nil
		}
		return Go, nil
	}
	if _, err := p.Generate(t.Context(), r); !errors.Is(err, ErrStopped) || !strings.Contains(err.Error(), "after step ") {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	return states
}

// magRatios make MagCache skip other steps of one branch than of the other.
func magRatios() []float64 {
	out := make([]float64, 18)
	for k := range out {
		out[k] = 1.02 + 0.03*float64(k%2)
	}
	return out
}

// TestContinuing has one device for all its parts: compiling takes longer than running.
func TestContinuing(t *testing.T) {
	d := enginetest.OpenPlain(t)
	t.Run("states of magcache end in the same latents", func(t *testing.T) { continueMagCache(t, d) })
	t.Run("states end in the same clip", func(t *testing.T) { continueClip(t, d) })
	t.Run("decoding what a step predicts", func(t *testing.T) { decodeEarly(t, d) })
	t.Run("previews", func(t *testing.T) { continuePreview(t, d) })
	t.Run("states of another model are refused", func(t *testing.T) { refuseStates(t, d) })
}

func continueMagCache(t *testing.T, d *engine.Device) {
	c := smallCheckpoint(t)
	c.Config.MagRatios = magRatios()
	r := guidedRequest()
	r.Steps, r.MagCache = 10, true
	states := statesOf(t, d, c, Options{}, r)
	want, residuals := states[9].Latents, map[int]bool{}
	for k, s := range states[:9] {
		if s.Step != k+1 {
			t.Errorf("the state after step %d is of step %d", k+1, s.Step)
		}
		if n := len(s.Earlier); residuals[n] || n == 0 {
			residuals[n] = true
			continue // one of each kind is enough
		}
		residuals[len(s.Earlier)] = true
		rest := statesOf(t, d, c, Options{BlocksInMemory: k % 4}, Request{Resume: throughFile(t, s)})
		if last := rest[len(rest)-1]; len(rest) != 9-k || !slices.Equal(last.Latents, want) {
			t.Errorf("after step %d: %d more steps, other latents", k+1, len(rest))
		}
	}
	if !residuals[0] || !residuals[1] || !residuals[2] {
		t.Errorf("the branches never differ: states with the latents of %v earlier steps", residuals)
	}
}

func continueClip(t *testing.T, d *engine.Device) {
	c := smallCheckpoint(t)
	r := guidedRequest()
	r.Steps, r.Digests = 3, true
	var states []*State
	r.AfterStep = func(f Finished) (Decision, error) {
		states = append(states, f.State)
		return Go, nil
	}
	want := generate(t, d, c, Options{}, r)
	got := generate(t, d, c, Options{BlocksInMemory: 2, HostTier: swap.Mapped, HostWeights: load.CodedWeights, Offload: true}, Request{Resume: throughFile(t, states[1]), Digests: true})
	if !bytes.Equal(got.Clip.Pix, want.Clip.Pix) || got.Stats.StepsMade != 1 {
		t.Errorf("continued after two of three steps, %d more were made; same clip: %v", got.Stats.StepsMade, bytes.Equal(got.Clip.Pix, want.Clip.Pix))
	}
	if !reflect.DeepEqual(got.Digests, want.Digests) || slices.Contains(got.Digests.Latents, "") {
		t.Errorf("the digests are %+v, without a break %+v", got.Digests, want.Digests)
	}
}

func TestResidualStepsAreTheLastFullOnes(t *testing.T) {
	plan := [][]bool{{false, false}, {true, false}, {true, true}, {false, true}, {true, false}}
	for step, want := range [][]int{{-1, -1}, {0, -1}, {0, 1}, {-1, 1}, {3, -1}, nil} {
		if got := residualSteps(plan, step); !slices.Equal(got, want) {
			t.Errorf("step %d: %v, want %v", step, got, want)
		}
	}
}

func TestMagCacheAdvancesAsItWouldCount(t *testing.T) {
	for _, guided := range []bool{false, true} {
		counted, err := NewMagCache(magRatios(), 10, guided)
		if err != nil {
			t.Fatal(err)
		}
		for step, want := range counted.Plan() {
			advanced, err := NewMagCache(magRatios(), 10, guided)
			if err != nil {
				t.Fatal(err)
			}
			advanced.Advance(step)
			for branch, skip := range want {
				if a, b := counted.Next(), advanced.Next(); a != skip || b != skip {
					t.Errorf("guided %v, step %d, branch %d: planned %v, counted %v, advanced %v", guided, step, branch, skip, a, b)
				}
			}
		}
	}
}

func TestMagCacheNeverSkipsAFirstPass(t *testing.T) {
	for steps := 1; steps <= 12; steps++ {
		for _, guided := range []bool{false, true} {
			m, err := NewMagCache(magRatios(), steps, guided)
			if err != nil {
				t.Fatal(err)
			}
			if first := m.Plan()[0]; slices.Contains(first, true) {
				t.Errorf("%d steps, guided %v: the first step skips %v", steps, guided, first)
			}
		}
	}
}

func decodeEarly(t *testing.T, d *engine.Device) {
	c := smallCheckpoint(t)
	p, err := New(t.Context(), d, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r := pictureRequest()
	r.Steps = 3
	r.AfterStep = func(f Finished) (Decision, error) {
		if f.Step > 1 {
			t.Errorf("step %d was made after decoding was asked for", f.Step)
		}
		return Decode, nil
	}
	early, err := p.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	// One step from pure noise, followed to its end, is the one-step sampler: its clip is known.
	r.AfterStep, r.Steps = nil, 1
	single, err := p.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for k := range single.Clip.Pix {
		if diff := int(single.Clip.Pix[k]) - int(early.Clip.Pix[k]); diff < -1 || diff > 1 {
			t.Fatalf("byte %d of the predicted clip is %d, of the clip of one step %d", k, early.Clip.Pix[k], single.Clip.Pix[k])
		}
	}
}

func refuseStates(t *testing.T, d *engine.Device) {
	c := smallCheckpoint(t)
	p, err := New(t.Context(), d, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	states := statesOf(t, d, c, Options{}, pictureRequest())
	for name, change := range map[string]func(s *State){
		"weights":       func(s *State) { s.Model = strings.Repeat("0", len(s.Model)) },
		"configuration": func(s *State) { s.Config = "" },
		"precision":     func(s *State) { s.Precision = load.Float32 },
		"linear layers": func(s *State) { s.Linear = load.LinearInt8 },
		"attention":     func(s *State) { s.Attention = load.AttentionSage },
		"host weights":  func(s *State) { s.Host = load.Int8Weights },
		"adapters":      func(s *State) { s.Settings.LoRA = []lora.Applied{{Path: "x.safetensors", Weight: 1}} },
		"steps":         func(s *State) { s.Settings.Steps = -1 },
		"steps done":    func(s *State) { s.Step = 2 },
		"guidance":      func(s *State) { s.Settings.Guidance = 4 },
		"latents":       func(s *State) { s.Latents = s.Latents[1:] },
		"first frame":   func(s *State) { s.FirstFrame = nil },
		"prompt": func(s *State) {
			s.Prompts = []EncodedPrompt{{Text: s.Prompts[0].Text[1:], Pooled: s.Prompts[0].Pooled}}
		},
		"pooled":          func(s *State) { s.Prompts = []EncodedPrompt{{Text: s.Prompts[0].Text}} },
		"size":            func(s *State) { s.Settings.Size.Width = 1 << 40 },
		"latent geometry": func(s *State) { s.Settings.Geometry.LatentFrames = 1 << 60 },
	} {
		bad := *states[0]
		change(&bad)
		_, err := p.Generate(t.Context(), Request{Resume: &bad})
		if !errors.Is(err, ErrRequest) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
