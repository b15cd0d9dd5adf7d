package weights

import (
	"reflect"
	"strings"
	"testing"
)

func TestGenerationConfig(t *testing.T) {
	c := Qwen7B()
	published := GenerationConfig{DoSample: true, Temperature: 1e-6, TopK: 50, TopP: 1, RepetitionPenalty: 1.05, Stop: []int32{151645, 151643}}
	for text, want := range map[string]GenerationConfig{
		`{"bos_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643], "repetition_penalty": 1.05, "temperature": 0.000001}`: published,
		`{}`: {Temperature: 1, TopK: 50, TopP: 1, RepetitionPenalty: 1, Stop: []int32{151645, 151643}},
		`{"eos_token_id": 7, "top_k": 0, "top_p": 0.8, "temperature": null}`: {Temperature: 1, TopP: 0.8, RepetitionPenalty: 1, Stop: []int32{7}},
	} {
		got, err := ParseGenerationConfig([]byte(text), c)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	if got, err := LoadGenerationConfig("", c); err != nil || !reflect.DeepEqual(got, published) {
		t.Errorf("without a file: %+v, %v", got, err)
	}
}

func TestHostileGenerationConfigsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		``: "invalid JSON", `[]`: "not a JSON object", `{"temperature": -1}`: "temperature", `{"temperature": 1e999}`: "temperature",
		`{"temperature": "hot"}`: "temperature is a string", `{"top_p": 0}`: "top_p", `{"top_k": -1}`: "top_k", `{"top_k": 1.5}`: "top_k",
		`{"repetition_penalty": 0}`: "repetition_penalty", `{"eos_token_id": "x"}`: "eos_token_id", `{"eos_token_id": [152064]}`: "eos_token_id",
		`{"eos_token_id": -1}`: "eos_token_id", `{"eos_token_id": [1` + strings.Repeat(",1", 64) + `]}`: "65 ids", `{"eos_token_id": {}}`: "eos_token_id",
	} {
		if _, err := ParseGenerationConfig([]byte(text), Qwen7B()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", text, err, want)
		}
	}
}

func FuzzGenerationConfig(f *testing.F) {
	f.Add([]byte(`{"do_sample": true, "temperature": 0.5, "top_k": 3, "top_p": 0.5, "repetition_penalty": 1.05, "eos_token_id": [1, 2]}`))
	f.Add([]byte(`{"eos_token_id": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := SmallSynth().Qwen
		g, err := ParseGenerationConfig(data, c)
		if err != nil {
			return
		}
		if err := g.validate(); err != nil || len(g.Stop) > maxStops {
			t.Errorf("accepted %+v: %v", g, err)
		}
		for _, id := range g.Stop {
			if id < 0 || int(id) >= c.Text.VocabSize {
				t.Errorf("accepted the id %d", id)
			}
		}
	})
}

func TestImageProcessorConfig(t *testing.T) {
	small := PublishedImageProcessor()
	small.MinPixels, small.MaxPixels = 100, 2000
	for text, want := range map[string]ImageProcessorConfig{
		`{}`: PublishedImageProcessor(), `{"min_pixels": 100, "max_pixels": 2000}`: small,
		`{"size": {"shortest_edge": 100, "longest_edge": 2000}}`: small,
	} {
		if got, err := ParseImageProcessorConfig([]byte(text)); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		`{"max_pixels": 1e12}`: "max_pixels", `{"min_pixels": 0}`: "min_pixels", `{"min_pixels": 20000000}`: "max_pixels",
		`{"image_std": [1, 0, 1]}`: "image_std", `{"image_mean": [1e300, 0, 0]}`: "image_mean", `{"image_mean": "grey"}`: "image_mean",
	} {
		if _, err := ParseImageProcessorConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
