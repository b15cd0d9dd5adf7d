package weights

import (
	"encoding/json"
	"fmt"
)

// QwenConfig is the configuration of Qwen2.5-VL (transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py): the text
// decoder, the vision tower and the ids of the tokens that join them.
type QwenConfig struct {
	Text               QwenTextConfig   `json:"text_config"`
	Vision             QwenVisionConfig `json:"vision_config"`
	ImageTokenID       int              `json:"image_token_id"`
	VideoTokenID       int              `json:"video_token_id"`
	VisionStartTokenID int              `json:"vision_start_token_id"`
	VisionEndTokenID   int              `json:"vision_end_token_id"`
	BOSTokenID         int              `json:"bos_token_id"`
	EOSTokenID         int              `json:"eos_token_id"`
	TieWordEmbeddings  bool             `json:"tie_word_embeddings"` // lm_head is then the token embedding and is not stored
}

// QwenTextConfig is the decoder. Widths are in channels.
type QwenTextConfig struct {
	HiddenSize            int         `json:"hidden_size"`
	IntermediateSize      int         `json:"intermediate_size"`
	NumHiddenLayers       int         `json:"num_hidden_layers"`
	NumAttentionHeads     int         `json:"num_attention_heads"`
	NumKeyValueHeads      int         `json:"num_key_value_heads"`
	VocabSize             int         `json:"vocab_size"`
	MaxPositionEmbeddings int         `json:"max_position_embeddings"`
	RMSNormEps            float64     `json:"rms_norm_eps"`
	RopeTheta             float64     `json:"rope_theta"`
	RopeScaling           RopeScaling `json:"rope_scaling"`
}

// RopeScaling says how many rotary frequencies follow the temporal, the row and the column position.
type RopeScaling struct {
	Type         string `json:"type"`
	MRopeSection [3]int `json:"mrope_section"`
}

// HeadDim is the width of one attention head.
func (c QwenTextConfig) HeadDim() int { return c.HiddenSize / c.NumAttentionHeads }

// QwenVisionConfig is the vision tower. Sizes of patches and windows are in pixels.
type QwenVisionConfig struct {
	Depth               int   `json:"depth"`
	HiddenSize          int   `json:"hidden_size"`
	IntermediateSize    int   `json:"intermediate_size"`
	NumHeads            int   `json:"num_heads"`
	InChans             int   `json:"in_chans"`
	OutHiddenSize       int   `json:"out_hidden_size"`
	PatchSize           int   `json:"patch_size"`
	SpatialMergeSize    int   `json:"spatial_merge_size"`
	TemporalPatchSize   int   `json:"temporal_patch_size"`
	WindowSize          int   `json:"window_size"`
	FullAttBlockIndexes []int `json:"fullatt_block_indexes"`
}

// Qwen7B is the published text and vision encoder (Qwen/Qwen2.5-VL-7B-Instruct, config.json).
func Qwen7B() QwenConfig {
	return QwenConfig{
		Text: QwenTextConfig{
			HiddenSize: 3584, IntermediateSize: 18944, NumHiddenLayers: 28, NumAttentionHeads: 28, NumKeyValueHeads: 4,
			VocabSize: 152064, MaxPositionEmbeddings: 128000, RMSNormEps: 1e-6, RopeTheta: 1e6,
			RopeScaling: RopeScaling{Type: "mrope", MRopeSection: [3]int{16, 24, 24}},
		},
		Vision: QwenVisionConfig{
			Depth: 32, HiddenSize: 1280, IntermediateSize: 3420, NumHeads: 16, InChans: 3, OutHiddenSize: 3584, PatchSize: 14,
			SpatialMergeSize: 2, TemporalPatchSize: 2, WindowSize: 112, FullAttBlockIndexes: []int{7, 15, 23, 31},
		},
		ImageTokenID: 151655, VideoTokenID: 151656, VisionStartTokenID: 151652, VisionEndTokenID: 151653,
		BOSTokenID: 151643, EOSTokenID: 151645,
	}
}

// UnmarshalJSON reads both published forms over the values already in c: decoder keys at the top level, then those
// under "text_config", which win.
func (c *QwenConfig) UnmarshalJSON(data []byte) error {
	type plain QwenConfig // without this method
	text := c.Text
	if err := unmarshal(data, &text); err != nil {
		return err
	}
	var newer struct {
		Text struct {
			Rope struct {
				Theta   float64 `json:"rope_theta"`
				Section [3]int  `json:"mrope_section"`
			} `json:"rope_parameters"` // where transformers 5 keeps them
		} `json:"text_config"`
	}
	if err := unmarshal(data, &newer); err != nil {
		return err
	}
	p := plain(*c)
	p.Text = text
	if err := unmarshal(data, &p); err != nil {
		return err
	}
	if r := newer.Text.Rope; r.Theta != 0 {
		p.Text.RopeTheta, p.Text.RopeScaling.MRopeSection = r.Theta, r.Section
	}
	*c = QwenConfig(p)
	return nil
}

// MarshalJSON writes the published form: decoder keys at the top level beside vision_config.
func (c QwenConfig) MarshalJSON() ([]byte, error) {
	type tokens struct {
		Architectures      []string         `json:"architectures"`
		ModelType          string           `json:"model_type"`
		Vision             QwenVisionConfig `json:"vision_config"`
		ImageTokenID       int              `json:"image_token_id"`
		VideoTokenID       int              `json:"video_token_id"`
		VisionStartTokenID int              `json:"vision_start_token_id"`
		VisionEndTokenID   int              `json:"vision_end_token_id"`
		BOSTokenID         int              `json:"bos_token_id"`
		EOSTokenID         int              `json:"eos_token_id"`
		TieWordEmbeddings  bool             `json:"tie_word_embeddings"`
	}
	return json.Marshal(struct {
		tokens
		QwenTextConfig
	}{tokens{
		[]string{"Qwen2_5_VLForConditionalGeneration"}, "qwen2_5_vl", c.Vision, c.ImageTokenID, c.VideoTokenID,
		c.VisionStartTokenID, c.VisionEndTokenID, c.BOSTokenID, c.EOSTokenID, c.TieWordEmbeddings,
	}, c.Text})
}

// Validate refuses sizes that no network of this kind can have.
func (c QwenConfig) Validate() error {
	if err := firstError(c.Text.validate(), c.Vision.validate()); err != nil {
		return fmt.Errorf("weights: Qwen config: %w", err)
	}
	if c.Vision.OutHiddenSize != c.Text.HiddenSize {
		return fmt.Errorf("weights: Qwen config: vision out_hidden_size %d differs from the decoder's hidden_size %d",
			c.Vision.OutHiddenSize, c.Text.HiddenSize)
	}
	return nil
}

func (c QwenTextConfig) validate() error {
	err := firstError(
		inRange("hidden_size", c.HiddenSize, 1, maxWidth), inRange("intermediate_size", c.IntermediateSize, 1, maxWidth),
		inRange("num_hidden_layers", c.NumHiddenLayers, 1, maxLayers), inRange("num_attention_heads", c.NumAttentionHeads, 1, 1<<12),
		inRange("num_key_value_heads", c.NumKeyValueHeads, 1, 1<<12), inRange("vocab_size", c.VocabSize, 1, maxVocab),
	)
	if err != nil {
		return err
	}
	section := c.RopeScaling.MRopeSection
	switch half := c.HeadDim() / 2; {
	case c.HiddenSize%c.NumAttentionHeads != 0 || c.HeadDim()%2 != 0:
		return fmt.Errorf("hidden_size %d does not divide into %d heads of even width", c.HiddenSize, c.NumAttentionHeads)
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return fmt.Errorf("%d attention heads do not share %d key and value heads evenly", c.NumAttentionHeads, c.NumKeyValueHeads)
	case min(section[0], section[1], section[2]) < 0 || section[0]+section[1]+section[2] != half:
		return fmt.Errorf("mrope_section %v does not add up to half the head width, %d", section, half)
	case !(c.RMSNormEps > 0 && c.RMSNormEps < 1) || !(c.RopeTheta > 0 && c.RopeTheta < 1e12):
		return fmt.Errorf("rms_norm_eps %g or rope_theta %g out of range", c.RMSNormEps, c.RopeTheta)
	}
	return nil
}

func (c QwenVisionConfig) validate() error {
	err := firstError(
		inRange("depth", c.Depth, 1, maxLayers), inRange("vision hidden_size", c.HiddenSize, 1, maxWidth),
		inRange("vision intermediate_size", c.IntermediateSize, 1, maxWidth), inRange("num_heads", c.NumHeads, 1, 1<<12),
		inRange("in_chans", c.InChans, 1, 64), inRange("patch_size", c.PatchSize, 1, 256),
		inRange("spatial_merge_size", c.SpatialMergeSize, 1, 16), inRange("temporal_patch_size", c.TemporalPatchSize, 1, 16),
		inRange("window_size", c.WindowSize, c.PatchSize*c.SpatialMergeSize, 1<<16),
	)
	if err == nil && (c.HiddenSize%c.NumHeads != 0 || c.HiddenSize/c.NumHeads%4 != 0) {
		err = fmt.Errorf("vision hidden_size %d does not divide into %d heads of a multiple of 4", c.HiddenSize, c.NumHeads)
	}
	for _, i := range c.FullAttBlockIndexes {
		err = firstError(err, inRange("fullatt_block_indexes", i, 0, c.Depth-1))
	}
	return err
}
