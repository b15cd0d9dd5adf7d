package verify

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// Attention by bytes keeps to the limits of mixed precision, which are the reference's own error in bf16, and is what was computed.
func TestGoldenCasesHoldWithSage(t *testing.T) {
	d := enginetest.Open(t)
	for _, c := range []string{"dit_full_pro", "dit_nabla"} {
		velocity := map[load.Attention]float64{}
		for _, a := range []load.Attention{load.AttentionOwn, load.AttentionSage} {
			results, err := File(t.Context(), d, testdata.Shared(t, "golden/"+c+".safetensors"), Options{Attention: a})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if !r.Pass {
					t.Errorf("%s with %v, %s: %s %.3g (limit %.3g)", c, a, r.Output, r.Metric, r.Value, r.Limit)
				}
				if r.Output == "velocity" {
					velocity[a] = r.Value
				}
			}
		}
		if own, sage := velocity[load.AttentionOwn], velocity[load.AttentionSage]; own == 0 || own == sage {
			t.Errorf("%s: the velocity errs by %g, with sage by %g", c, own, sage)
		}
	}
	if results, err := File(t.Context(), d, testdata.Shared(t, "golden/clip.safetensors"), Options{Attention: load.AttentionSage}); err != nil || len(results) != 0 {
		t.Errorf("clip has no such attention, and gave %v, %v", results, err)
	}
}
