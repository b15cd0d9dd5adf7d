package clip

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// goldenCase is the reference case: a small tower with random weights and what the public implementation computed.
type goldenCase struct {
	file   *weights.File
	reader load.Reader
	config weights.CLIPConfig
}

func openGolden(t *testing.T) *goldenCase {
	t.Helper()
	f, err := weights.Open(testdata.Shared(t, "golden/clip.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	ckpt, err := weights.NewCheckpoint([]*weights.File{f}, weights.OpenOptions{Prefix: "weights.", Component: weights.CLIP})
	if err != nil {
		t.Fatal(err)
	}
	g := &goldenCase{file: f, reader: load.FromCheckpoint(ckpt), config: weights.CLIPViTL14()}
	if err := json.Unmarshal([]byte(f.Metadata()["config"]), &g.config); err != nil {
		t.Fatal(err)
	}
	return g
}

// prompts are the case's sequences of ids.
func (g *goldenCase) prompts() [][]int32 {
	t, _ := g.file.Tensor("in.input_ids")
	ids := t.Int32s()
	out := make([][]int32, t.Shape[0])
	for k := range out {
		out[k] = ids[k*t.Shape[1] : (k+1)*t.Shape[1]]
	}
	return out
}

// slice returns the values of an output that belong to prompt k.
func (g *goldenCase) slice(name string, k int) []float32 {
	t, _ := g.file.Tensor(name)
	each := t.Elements() / t.Shape[0]
	return t.Float32s()[k*each : (k+1)*each]
}

// within demands ‖got − want‖ / ‖want‖ ≤ limit; NaN fails.
func within(t *testing.T, got, want []float32, limit float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	var diff, norm float64
	for k, w := range want {
		d := float64(got[k]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	rel := math.Sqrt(diff / norm)
	t.Logf("relative error %.3g", rel)
	if !(rel <= limit) {
		t.Errorf("relative error %.3g, at most %.3g is allowed", rel, limit)
	}
}
