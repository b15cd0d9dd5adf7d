package dit

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// A pass takes what its plan says to the byte, whether the text blocks' work is the peak or the visual blocks'.
func TestAPassTakesWhatItsPlanSays(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	sparse, wordy := config, config
	wordy.InTextDim = 8192 // so that the prompts outweigh a picture
	sparse.Nabla = &Nabla{P: 0.8, Window: [3]int{3, 3, 3}}
	for _, c := range []struct {
		name   string
		config Config
		visual SwapOptions
		size   Size
		rows   int // of the prompts
		times  int
		step   string // of the peak
		linear load.Linear
		packed bool
	}{
		{"a long prompt and a small picture", wordy, SwapOptions{}, Size{Frames: 1, Height: 16, Width: 16}, 1100, 2, "text blocks", load.LinearFull, false},
		{"a short prompt and a clip", config, SwapOptions{Slots: 2}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearFull, false},
		{"packed operands", config, SwapOptions{Slots: 2}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearFull, true},
		{"blocks that wait in eight bits", config, SwapOptions{Slots: 2, Host: load.Int8Weights}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearFull, false},
		{"blocks with coded exponents", config, SwapOptions{Slots: 2, Host: load.CodedWeights}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearFull, false},
		{"coded blocks, one of them pinned, and packed operands", config, SwapOptions{Slots: 1, Tier: swap.Mixed, Pinned: 1, Host: load.CodedWeights}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearFull, true},
		{"sparse attention, blocks in a file", sparse, SwapOptions{Slots: 1, Tier: swap.Mapped}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearFull, false},
		{"linear layers in int8", config, SwapOptions{Slots: 2}, Size{Frames: 31, Height: 64, Width: 96}, 3, 2, "denoise", load.LinearInt8, true}, // of which none is packed
	} {
		t.Run(c.name, func(t *testing.T) {
			d := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{EmulateFragments: true, Chunk: enginetest.ChunkOfUsers}})
			c.size.RopeScale = [3]float32{1, 2, 2}
			prompts, release := madeUpPrompts(t, d, c.config, c.rows)
			defer release()
			reader := load.Synthetic(weights.BF16)
			needs, err := Plan(Request{Config: c.config, Reader: reader, Options: Options{Visual: c.visual, Linear: c.linear},
				Half: d.Caps().Tier >= engine.TierFP16, Size: c.size, TextRows: c.rows, Branches: len(prompts), Times: c.times, Packed: c.packed, MaxAllocation: d.Caps().MaxAllocation})
			if err != nil {
				t.Fatal(err)
			}
			needs.Add("always", "unused binding", 1, 256) // the device's own
			for _, p := range prompts {
				needs.Add("always", "text", 1, p.Text.Bytes())
			}
			m, err := New(t.Context(), d, reader, c.config, Options{Visual: c.visual, Linear: c.linear})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			times := make([]float32, c.times)
			for k := range times {
				times[k] = float32(1000 - k)
			}
			pass, err := m.NewPass(t.Context(), PassOptions{Size: c.size, Prompts: prompts, Times: times, Packed: c.packed})
			if err != nil {
				t.Fatal(err)
			}
			defer pass.Close()
			if got, want := d.Mem.Peak(memory.Device), needs.Device().Bytes(); got != want {
				t.Errorf("the peak is %d bytes, the plan says %d: %+v", got, want, needs.Device().Items())
			}
			text := needs.text.Bytes() > needs.visual.Bytes()
			if text != (c.step == "text blocks") {
				t.Errorf("text blocks take %d bytes, the rest %d: the case does not test what it says", needs.text.Bytes(), needs.visual.Bytes())
			}
		})
	}
}

// Times that do not go through the text blocks together give the same velocity.
func TestTimesInGroupsGiveTheSameConditions(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	const rows = 3
	one := config.stateBuffer(rows).Bytes()
	if n := config.together(1000, 2, rows); int64(n) != min(1000, stateBytes/(2*one)) {
		t.Errorf("%d times of two branches go through together", n)
	}
	if n := config.together(5, 2, 1<<20); n < 1 {
		t.Errorf("%d times go through together: at least one must", n)
	}
	d := enginetest.Open(t)
	prompts, release := madeUpPrompts(t, d, config, rows)
	defer release()
	m, err := New(t.Context(), d, load.Synthetic(weights.BF16), config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	conditions := func(times ...float32) [][]byte {
		pass, err := m.NewPass(t.Context(), PassOptions{Size: Size{Frames: 1, Height: 4, Width: 4, RopeScale: [3]float32{1, 1, 1}}, Prompts: prompts, Times: times})
		if err != nil {
			t.Fatal(err)
		}
		defer pass.Close()
		var out [][]byte
		for _, b := range pass.branches {
			c := b.condition(500)
			act, err := d.Download(t.Context(), c.act)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c.text, act)
		}
		return out
	}
	alone, among := conditions(500), conditions(900, 500, 500, 100)
	for k := range alone {
		if string(alone[k]) != string(among[k]) {
			t.Errorf("condition %d at a time depends on the other times", k)
		}
	}
	if string(alone[0]) == string(alone[2]) {
		t.Error("two different prompts have the same condition")
	}
}

// madeUpPrompts makes two prompts of so many rows.
func madeUpPrompts(t *testing.T, d *engine.Device, config Config, rows int) ([]Prompt, func()) {
	t.Helper()
	a := d.NewArena("test")
	prompts := make([]Prompt, 2)
	for k := range prompts {
		prompts[k] = Prompt{Text: a.Alloc("text", engine.F32, rows, config.InTextDim), Pooled: make([]float32, config.InTextDim2)}
		if err := a.Err(); err != nil {
			t.Fatal(err)
		}
		values := make([]float32, rows*config.InTextDim)
		for n := range values {
			values[n] = float32((n*(k+3))%17) / 17
		}
		if err := d.UploadF32(t.Context(), prompts[k].Text, values); err != nil {
			t.Fatal(err)
		}
	}
	return prompts, a.Release
}
