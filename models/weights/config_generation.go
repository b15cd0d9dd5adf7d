package weights

import (
	"encoding/json"
	"fmt"
	"math"
)

// GenerationConfig says how a text is continued: the keys of generation_config.json that matter here.
type GenerationConfig struct {
	DoSample          bool    `json:"do_sample"` // draw from the probabilities; without it the likeliest id is taken
	Temperature       float64 `json:"temperature"`
	TopK              int     `json:"top_k"` // draw among so many of the likeliest; 0: all
	TopP              float64 `json:"top_p"` // draw among the fewest that have this probability together; 1: all
	RepetitionPenalty float64 `json:"repetition_penalty"`
	Stop              []int32 `json:"-"` // eos_token_id: ids that end a text
}

// GenerationOf is the published generation_config.json of a model, for folders without one: sampling at a temperature
// so low that only the likeliest id has a chance.
func GenerationOf(c QwenConfig) GenerationConfig {
	g := libraryGeneration()
	g.DoSample, g.Temperature, g.RepetitionPenalty = true, 1e-6, 1.05
	g.Stop = []int32{int32(c.EOSTokenID), int32(c.BOSTokenID)} // <|im_end|> and <|endoftext|>
	return g
}

// libraryGeneration holds what keys mean that a file leaves out (transformers,
// generation/configuration_utils.py).
func libraryGeneration() GenerationConfig {
	return GenerationConfig{Temperature: 1, TopK: 50, TopP: 1, RepetitionPenalty: 1}
}

// LoadGenerationConfig reads a generation_config.json; an empty path means there is none, and the published values
// hold.
func LoadGenerationConfig(path string, c QwenConfig) (GenerationConfig, error) {
	if path == "" {
		return GenerationOf(c), nil
	}
	data, err := readBounded(path, maxJSON)
	if err != nil {
		return GenerationConfig{}, fmt.Errorf("weights: read config: %w", err)
	}
	g, err := ParseGenerationConfig(data, c)
	if err != nil {
		return g, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}

// ParseGenerationConfig reads generation_config.json and validates it. Keys that are absent or null have the library's
// defaults, but for eos_token_id, which is then the model's.
func ParseGenerationConfig(data []byte, c QwenConfig) (GenerationConfig, error) {
	g := libraryGeneration()
	var stop struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	err := firstError(unmarshal(data, &g), unmarshal(data, &stop))
	if err == nil {
		g.Stop, err = tokenIDs(stop.EOS, c)
	}
	if err == nil {
		err = g.validate()
	}
	if err != nil {
		return GenerationConfig{}, fmt.Errorf("weights: generation config: %w", err)
	}
	return g, nil
}

// maxStops bounds the ids that end a text; published models have two.
const maxStops = 64

// tokenIDs reads eos_token_id: a number or a list of them.
func tokenIDs(raw json.RawMessage, c QwenConfig) ([]int32, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return GenerationOf(c).Stop, nil
	}
	var list []int32
	if raw[0] != '[' {
		list = make([]int32, 1)
		if err := json.Unmarshal(raw, &list[0]); err != nil {
			return nil, fmt.Errorf("eos_token_id is %.40s, want an id or a list of ids", raw)
		}
	} else if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("eos_token_id is %.40s, want an id or a list of ids", raw)
	}
	if len(list) > maxStops {
		return nil, fmt.Errorf("eos_token_id lists %d ids, want at most %d", len(list), maxStops)
	}
	for _, id := range list {
		if err := inRange("eos_token_id", int(id), 0, c.Text.VocabSize-1); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (g GenerationConfig) validate() error {
	switch {
	case !(g.Temperature >= 0 && g.Temperature <= 1e3):
		return fmt.Errorf("temperature is %g, want 0 to 1000", g.Temperature)
	case !(g.TopP > 0 && g.TopP <= 1):
		return fmt.Errorf("top_p is %g, want a number above 0, up to 1", g.TopP)
	case !(g.RepetitionPenalty > 0 && g.RepetitionPenalty <= 1e3):
		return fmt.Errorf("repetition_penalty is %g, want a number above 0, up to 1000", g.RepetitionPenalty)
	}
	return inRange("top_k", g.TopK, 0, math.MaxInt32)
}
