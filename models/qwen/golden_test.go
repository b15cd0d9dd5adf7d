package qwen

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// goldenCase is the reference case: a small model with random weights and what the public implementation computed.
type goldenCase struct {
	file   *weights.File
	ckpt   *weights.Checkpoint
	reader load.Reader
	config weights.QwenConfig
}

func openGolden(t *testing.T) *goldenCase {
	t.Helper()
	f, err := weights.Open(testdata.Shared(t, "golden/qwen.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	ckpt, err := weights.NewCheckpoint([]*weights.File{f}, weights.OpenOptions{Prefix: "weights.", Component: weights.Qwen})
	if err != nil {
		t.Fatal(err)
	}
	g := &goldenCase{file: f, ckpt: ckpt, reader: load.FromCheckpoint(ckpt), config: weights.Qwen7B()}
	for key, v := range map[string]any{"text_config": &g.config.Text, "vision_config": &g.config.Vision} {
		if err := json.Unmarshal([]byte(f.Metadata()[key]), v); err != nil {
			t.Fatal(err)
		}
	}
	var special struct {
		Image int `json:"image_token_id"`
	}
	if err := json.Unmarshal([]byte(f.Metadata()["special"]), &special); err != nil {
		t.Fatal(err)
	}
	g.config.ImageTokenID = special.Image
	return g
}

func (g *goldenCase) ints(t *testing.T, name string) []int32 {
	t.Helper()
	v, ok := g.file.Tensor(name)
	if !ok {
		t.Fatalf("the case has no %s", name)
	}
	return v.Int32s()
}

func (g *goldenCase) floats(t *testing.T, name string) []float32 {
	t.Helper()
	v, ok := g.file.Tensor(name)
	if !ok {
		t.Fatalf("the case has no %s", name)
	}
	return v.Float32s()
}

// text is the text prompt with its mask, and the row of its last valid id.
func (g *goldenCase) text(t *testing.T) (p Prompt, last int) {
	t.Helper()
	p.IDs = g.ints(t, "in.input_ids")
	for k, v := range g.ints(t, "in.attention_mask") {
		p.Mask = append(p.Mask, v != 0)
		if v != 0 {
			last = k
		}
	}
	return p, last
}

// picture is the prompt with a picture.
func (g *goldenCase) picture(t *testing.T) Prompt {
	t.Helper()
	grid := g.ints(t, "in.image_grid_thw")
	return Prompt{IDs: g.ints(t, "in.image_prompt_ids"),
		Images: []Image{{Patches: g.floats(t, "in.pixel_values"), Rows: int(grid[1]), Cols: int(grid[2])}}}
}

func (g *goldenCase) open(t *testing.T, d *engine.Device, opts Options) *Model {
	t.Helper()
	m, err := New(t.Context(), d, g.reader, g.config, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

// take downloads and frees a tensor.
func take(t *testing.T, d *engine.Device, x engine.Tensor) []float32 {
	t.Helper()
	defer d.Free(x)
	out, err := d.DownloadF32(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// within demands ‖got − want‖ / ‖want‖ ≤ limit; NaN fails.
func within(t *testing.T, what string, got, want []float32, limit float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	var diff, norm float64
	for k, w := range want {
		d := float64(got[k]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	rel := math.Sqrt(diff / norm)
	t.Logf("%s: relative error %.3g", what, rel)
	if !(rel <= limit) {
		t.Errorf("%s: relative error %.3g, at most %.3g is allowed", what, rel, limit)
	}
}
