package qwen

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// largeLayers is a made-up decoder whose layers are large enough to have chunks of their own.
func largeLayers() (weights.QwenConfig, load.Reader) {
	c := weights.SmallSynth().Qwen
	c.Text.HiddenSize, c.Text.IntermediateSize, c.Text.NumHiddenLayers = 512, 7680, 8
	c.Text.NumAttentionHeads, c.Text.NumKeyValueHeads, c.Text.VocabSize = 4, 2, 70_000
	c.Text.RopeScaling.MRopeSection = [3]int{16, 24, 24}
	c.Vision.OutHiddenSize = 512
	return c, load.Synthetic(weights.BF16)
}

func TestPlanIsThePeak(t *testing.T) {
	config, reader := largeLayers()
	few := config
	few.Text.NumHiddenLayers = 3
	// A vision tower whose picture, and not the decoder, makes the peak.
	wide := few
	wide.Vision.HiddenSize, wide.Vision.IntermediateSize, wide.Vision.NumHeads, wide.Vision.Depth = 640, 8192, 8, 2
	wide.Vision.FullAttBlockIndexes = []int{1}
	pads := make([]int32, 8)
	for k := range pads {
		pads[k] = int32(config.ImageTokenID)
	}
	for _, c := range []struct {
		name   string
		config weights.QwenConfig
		opts   Options
		run    func(t *testing.T, m *Model)
	}{
		{"two prompts, streamed", config, Options{LayersInMemory: 3, Room: Work{Tokens: []int{4, 8}}}, func(t *testing.T, m *Model) {
			states, err := m.HiddenBatch(t.Context(), [][]int32{make([]int32, 4), make([]int32, 8)})
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range states {
				take(t, m.device, x)
			}
		}},
		{"a text with room to be continued at length", few, Options{LayersInMemory: 2, Room: Work{Tokens: []int{7}, NewTokens: 40_000}}, func(t *testing.T, m *Model) {
			end := func([]float32, []int32) (int32, error) { return 5, nil }
			if _, err := m.Generate(t.Context(), Prompt{IDs: make([]int32, 7)}, GenerateOptions{Max: 40_000, Stop: []int32{5}, Choose: end}); err != nil {
				t.Fatal(err)
			}
		}},
		{"lm_head kept", few, Options{LayersInMemory: 1, KeepHead: true, Room: Work{Tokens: []int{7}, NewTokens: 2}}, func(t *testing.T, m *Model) {
			if _, err := m.Generate(t.Context(), Prompt{IDs: make([]int32, 7)}, GenerateOptions{Max: 2}); err != nil {
				t.Fatal(err)
			}
		}},
		{"a picture", wide, Options{LayersInMemory: 1, Room: Work{Tokens: []int{8}, Patches: 32}}, func(t *testing.T, m *Model) {
			picture := Image{Rows: 4, Cols: 8, Patches: make([]float32, 32*patchElements(config.Vision))}
			states, err := m.Encode(t.Context(), []Prompt{{IDs: pads, Images: []Image{picture}}})
			if err != nil {
				t.Fatal(err)
			}
			take(t, m.device, states[0])
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := enginetest.OpenPlainWith(t, engine.Options{Limits: engine.TestLimits{Chunk: enginetest.ChunkOfUsers}})
			m, err := New(t.Context(), d, reader, c.config, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			c.run(t, m)
			items, layers, err := Plan(c.config, reader, c.opts, 0, m.half)
			if err != nil {
				t.Fatal(err)
			}
			var planned int64
			for _, i := range items {
				planned += i.Bytes
				t.Logf("%-8s %12d %s", i.When, i.Bytes, i.Label)
			}
			if peak := d.Mem.Peak(memory.Device); planned != peak || layers != c.opts.LayersInMemory {
				t.Errorf("planned %d bytes and %d layers, used %d", planned, layers, peak)
			}
		})
	}
}

func TestPlanOfThePublishedModel(t *testing.T) {
	reader := load.Synthetic(weights.BF16)
	all, layers, err := Plan(weights.Qwen7B(), reader, Options{}, 0, true)
	if err != nil || layers != 28 {
		t.Fatalf("%d layers, %v", layers, err)
	}
	sum := func(items []load.Item) (n int64) {
		for _, i := range items {
			n += i.Bytes
		}
		return n
	}
	if got := sum(all); got < 13e9 || got > 14e9 {
		t.Errorf("all layers need %d bytes, want 13 to 14 GB", got)
	}
	for _, budget := range []int64{2 << 30, 6 << 30, 12 << 30} {
		items, layers, err := Plan(weights.Qwen7B(), reader, Options{}, budget, true)
		if err != nil {
			t.Fatal(err)
		}
		got := sum(items)
		more, _, err := Plan(weights.Qwen7B(), reader, Options{LayersInMemory: layers + 1}, 0, true)
		if err != nil {
			t.Fatal(err)
		}
		if got > budget || sum(more) <= budget {
			t.Errorf("within %d bytes: %d layers take %d, one more %d", budget, layers, got, sum(more))
		}
	}
}
