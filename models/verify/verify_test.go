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
	if err != nil || len(files) < 13 {
		t.Fatalf("%d golden cases found, at least 13 expected: %v", len(files), err)
	}
	files = append(files, testdata.Shared(t, "golden/tokenizers.json"))
	for _, tier := range []engine.Tier{engine.TierBase, engine.TierFP16, engine.TierMatrix} {
		if tier == engine.TierMatrix && !offersMatrices(t) {
			continue
		}
		d := enginetest.OpenWith(t, engine.Options{Tier: tier})
		for _, precision := range []load.Precision{load.Float32, load.Mixed} {
			if tier != engine.TierBase && precision == load.Float32 {
				continue // products of 16 bits are never used in f32
			}
			for _, file := range files {
				if elsewhere(filepath.Base(file), tier, precision) {
					continue
				}
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

// elsewhere says what is not run here, because it takes a software driver long and other tests do it: whole clips in fp32
// arithmetic (the program's test of embedded cases makes one in f32, models/tiny compares precisions, and every kernel of
// theirs is in the other cases), with -short in fp16 too, which the tests without it have; and the autoencoder in 16 bits
// without fp16 arithmetic, which is models/vae's.
func elsewhere(file string, tier engine.Tier, precision load.Precision) bool {
	switch file {
	case "tiny.safetensors":
		return tier == engine.TierBase || tier == engine.TierFP16 && testing.Short()
	case "vae.safetensors":
		return tier == engine.TierBase && precision == load.Mixed
	}
	return false
}

// offersMatrices tells whether the default device can run the kernels for matrices, and says why when it cannot.
func offersMatrices(t *testing.T) bool {
	t.Helper()
	d, err := engine.Open(t.Context(), engine.Options{Tier: engine.TierMatrix})
	if err != nil {
		t.Logf("tier matrix is left out: %v", err)
		return false
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return true
}
