package weights

import "fmt"

// CLIPConfig is the text tower of CLIP (transformers, models/clip/modeling_clip.py).
type CLIPConfig struct {
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	VocabSize             int     `json:"vocab_size"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"` // tokens of the one sequence length that is used
	LayerNormEps          float64 `json:"layer_norm_eps"`
	// EOSTokenID 2 is the published slip that selects the pooled row by the largest id; any other value selects it
	// by that id.
	EOSTokenID int `json:"eos_token_id"`
	BOSTokenID int `json:"bos_token_id"`
}

// CLIPViTL14 is the published text tower (openai/clip-vit-large-patch14, text_config of config.json).
func CLIPViTL14() CLIPConfig {
	return CLIPConfig{
		HiddenSize: 768, IntermediateSize: 3072, NumHiddenLayers: 12, NumAttentionHeads: 12, VocabSize: 49408,
		MaxPositionEmbeddings: 77, LayerNormEps: 1e-5, EOSTokenID: 2,
	}
}

// Validate refuses sizes that no network of this kind can have.
func (c CLIPConfig) Validate() error {
	err := firstError(
		inRange("hidden_size", c.HiddenSize, 1, maxWidth), inRange("intermediate_size", c.IntermediateSize, 1, maxWidth),
		inRange("num_hidden_layers", c.NumHiddenLayers, 1, maxLayers), inRange("num_attention_heads", c.NumAttentionHeads, 1, 1<<12),
		inRange("vocab_size", c.VocabSize, 1, maxVocab), inRange("max_position_embeddings", c.MaxPositionEmbeddings, 2, 1<<16),
	)
	switch {
	case err != nil:
	case c.HiddenSize%c.NumAttentionHeads != 0:
		err = fmt.Errorf("hidden_size %d does not divide into %d heads", c.HiddenSize, c.NumAttentionHeads)
	case !(c.LayerNormEps > 0 && c.LayerNormEps < 1):
		err = fmt.Errorf("layer_norm_eps is %g, want a small positive number", c.LayerNormEps)
	}
	if err != nil {
		return fmt.Errorf("weights: CLIP config: %w", err)
	}
	return nil
}
