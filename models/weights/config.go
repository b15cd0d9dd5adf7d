package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Bounds of what a configuration may say. They are far above every published network and keep products of sizes
// inside an int64.
const (
	maxWidth  = 1 << 18
	maxVocab  = 1 << 22
	maxLayers = 1 << 12
)

// inRange refuses a configuration value outside lo…hi.
func inRange(key string, value, lo, hi int) error {
	if value < lo || value > hi {
		return fmt.Errorf("%s is %d, want %d to %d", key, value, lo, hi)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// ParseDiTConfig reads transformer/config.json or the JSON form of dit_params, and validates it. Keys that are
// absent take the published defaults of upstream's constructor: text widths 3584 and 768, no conditioning.
func ParseDiTConfig(data []byte) (DiTConfig, error) {
	c := DiTConfig{InTextDim: 3584, InTextDim2: 768, PatchSize: [3]int{1, 2, 2}}
	if err := unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("weights: transformer config: %w", err)
	}
	return c, c.Validate()
}

// ParseVAEConfig reads vae/config.json and validates it. Keys that are absent take the published values.
func ParseVAEConfig(data []byte) (VAEConfig, error) {
	c := HunyuanVAE()
	if err := unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("weights: VAE config: %w", err)
	}
	return c, c.Validate()
}

// ParseQwenConfig reads the config.json of Qwen2.5-VL and validates it. The decoder's sizes stand at the top level
// (as published) or under "text_config" (newer transformers versions). Keys that are absent take the published
// values of the 7B model.
func ParseQwenConfig(data []byte) (QwenConfig, error) {
	c := Qwen7B()
	if err := c.UnmarshalJSON(data); err != nil {
		return c, fmt.Errorf("weights: Qwen config: %w", err)
	}
	return c, c.Validate()
}

// ParseCLIPConfig reads the config.json of a CLIP text tower, or of a whole CLIP with its "text_config", and
// validates it. Keys that are absent take the published values of ViT-L/14.
func ParseCLIPConfig(data []byte) (CLIPConfig, error) {
	c := CLIPViTL14()
	var whole struct {
		Text json.RawMessage `json:"text_config"`
	}
	err := unmarshal(data, &whole)
	if err == nil && len(whole.Text) > 0 && string(whole.Text) != "null" {
		data = whole.Text
	}
	if err == nil {
		err = unmarshal(data, &c)
	}
	if err != nil {
		return c, fmt.Errorf("weights: CLIP config: %w", err)
	}
	return c, c.Validate()
}

// unmarshal decodes one JSON object over the defaults in v.
func unmarshal(data []byte, v any) error {
	if !json.Valid(data) {
		return errors.New("invalid JSON")
	}
	if trimmed := bytes.TrimSpace(data); trimmed[0] != '{' {
		return errors.New("not a JSON object")
	}
	err := json.Unmarshal(data, v)
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) {
		return fmt.Errorf("%s is a %s, want %s", mismatch.Field, mismatch.Value, mismatch.Type)
	}
	return err
}
