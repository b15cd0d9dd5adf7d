package verify

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// Linear layers in int8 keep to their own limits, and are what was computed: they err more than 16-bit operands do.
func TestGoldenCasesHoldInInt8(t *testing.T) {
	d := enginetest.Open(t)
	for _, c := range []struct {
		file, output string
		least        float64
	}{{"dit_full_pro", "velocity", 5e-3}, {"dit_nabla", "velocity", 5e-3}, {"sampler_nocfg", "trajectory", 2e-3}} {
		results, err := File(t.Context(), d, testdata.Shared(t, "golden/"+c.file+".safetensors"), Options{Linear: load.LinearInt8})
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, r := range results {
			if !r.Pass {
				t.Errorf("%s, %s: %s %.3g (limit %.3g)", c.file, r.Output, r.Metric, r.Value, r.Limit)
			}
			if r.Output == c.output {
				found = r.Value >= c.least
			}
		}
		if !found {
			t.Errorf("%s: the error of its %s is not that of int8: %+v", c.file, c.output, results)
		}
	}
	for _, other := range []string{"clip.safetensors", "tokenizers.json"} {
		if results, err := File(t.Context(), d, testdata.Shared(t, "golden/"+other), Options{Linear: load.LinearInt8}); err != nil || len(results) != 0 {
			t.Errorf("%s has no linear layers in int8, and gave %v, %v", other, results, err)
		}
	}
}
