package verify

import (
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/load"
)

func TestGoldenCasesHold(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(filepath.Dir(testdata.Shared(t, "golden/README.md")), "*.safetensors"))
	if err != nil || len(files) < 12 {
		t.Fatalf("%d golden cases found, at least 12 expected: %v", len(files), err)
	}
	files = append(files, testdata.Shared(t, "golden/tokenizers.json"))
	for _, tier := range []engine.Tier{engine.TierBase, engine.TierFP16} {
		d := enginetest.OpenWith(t, engine.Options{Tier: tier})
		for _, precision := range []load.Precision{load.Float32, load.Mixed} {
			if tier == engine.TierFP16 && precision == load.Float32 {
				continue // fp16 products are never used in f32
			}
			for _, file := range files {
				t.Run(tier.String()+" "+precision.String()+" "+filepath.Base(file), func(t *testing.T) {
					options := Options{Precision: precision}
					if filepath.Ext(file) == ".json" {
						options.Tokenizers = filepath.Dir(filepath.Dir(testdata.Shared(t, "tokenizers/qwen/vocab.json")))
					}
					results, err := File(t.Context(), d, file, options)
					if err != nil {
						t.Fatal(err)
					}
					for _, r := range results {
						report := t.Logf
						if !r.Pass {
							report = t.Errorf
						}
						report("%s: %s %.3g (limit %.3g)", r.Output, r.Metric, r.Value, r.Limit)
					}
				})
			}
		}
	}
}
