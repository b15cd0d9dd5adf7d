package weights

import (
	"errors"
	"fmt"
)

// DiTConfig is the shape of a diffusion transformer: the yaml key model.dit_params of kandinskylab/kandinsky-5 and
// the transformer/config.json of the Diffusers folders use the same names. Widths are in channels.
type DiTConfig struct {
	InVisualDim     int    `json:"in_visual_dim"`  // latent channels before the visual conditioning is appended
	OutVisualDim    int    `json:"out_visual_dim"` // latent channels of the velocity
	InTextDim       int    `json:"in_text_dim"`    // width of the Qwen rows
	InTextDim2      int    `json:"in_text_dim2"`   // width of the pooled CLIP vector
	TimeDim         int    `json:"time_dim"`       // width of the conditioning vector
	PatchSize       [3]int `json:"patch_size"`     // latent frames, rows, columns of one token
	ModelDim        int    `json:"model_dim"`
	FFDim           int    `json:"ff_dim"`
	NumTextBlocks   int    `json:"num_text_blocks"`
	NumVisualBlocks int    `json:"num_visual_blocks"`
	AxesDims        [3]int `json:"axes_dims"`               // rotary channels per axis (t, h, w); their sum is the head width
	VisualCond      bool   `json:"visual_cond"`             // the input carries a first frame and a mask: 2C+1 channels
	InstructType    string `json:"instruct_type,omitempty"` // "channel" (image editing) also means 2C+1 input channels

	// The attention section, which upstream keeps beside dit_params and Diffusers flat in the same file.
	AttentionType string  `json:"attention_type,omitempty"` // "nabla" is sparse; anything else is full attention
	AttentionP    float64 `json:"attention_P,omitempty"`
	AttentionWT   int     `json:"attention_wT,omitempty"`
	AttentionWH   int     `json:"attention_wH,omitempty"`
	AttentionWW   int     `json:"attention_wW,omitempty"`
}

// liteDiT holds what all published transformers share and the sizes of the 2B video model.
func liteDiT() DiTConfig {
	return DiTConfig{
		InVisualDim: 16, OutVisualDim: 16, InTextDim: 3584, InTextDim2: 768, TimeDim: 512, PatchSize: [3]int{1, 2, 2},
		ModelDim: 1792, FFDim: 7168, NumTextBlocks: 2, NumVisualBlocks: 32, AxesDims: [3]int{16, 24, 24}, VisualCond: true,
	}
}

// LiteVideoDiT is the 2B video transformer (kandinsky-5, configs/k5_lite_*2v_*.yaml).
func LiteVideoDiT() DiTConfig { return liteDiT() }

// ProVideoDiT is the 20B video transformer (kandinsky-5, configs/k5_pro_*2v_*.yaml).
func ProVideoDiT() DiTConfig {
	c := liteDiT()
	c.TimeDim, c.ModelDim, c.FFDim, c.NumTextBlocks, c.NumVisualBlocks = 1024, 4096, 16384, 4, 60
	c.AxesDims = [3]int{32, 48, 48}
	return c
}

// LiteImageDiT is the 6B text-to-image transformer (kandinsky-5, configs/k5_lite_t2i_sft_hd.yaml).
func LiteImageDiT() DiTConfig {
	c := liteDiT()
	c.ModelDim, c.FFDim, c.NumVisualBlocks, c.VisualCond = 2560, 10240, 50, false
	c.AxesDims = [3]int{32, 48, 48}
	return c
}

// LiteImageEditDiT is the 6B image editing transformer (kandinsky-5, configs/k5_lite_i2i_sft_hd.yaml).
func LiteImageEditDiT() DiTConfig {
	c := LiteImageDiT()
	c.InstructType = "channel"
	return c
}

// HeadDim is the width of one attention head: the sum of the rotary axes.
func (c DiTConfig) HeadDim() int { return c.AxesDims[0] + c.AxesDims[1] + c.AxesDims[2] }

// Heads is the number of attention heads.
func (c DiTConfig) Heads() int { return c.ModelDim / c.HeadDim() }

// InputChannels is the number of channels of the transformer's input x [T, H, W, C]: the latents, and with visual
// conditioning or instruction as many source channels and one mask channel.
func (c DiTConfig) InputChannels() int {
	if c.VisualCond || c.InstructType == "channel" {
		return 2*c.InVisualDim + 1
	}
	return c.InVisualDim
}

// PatchVolume is the number of latent positions in one token.
func (c DiTConfig) PatchVolume() int { return c.PatchSize[0] * c.PatchSize[1] * c.PatchSize[2] }

// Validate refuses sizes that no network of this kind can have.
func (c DiTConfig) Validate() error {
	err := firstError(
		inRange("in_visual_dim", c.InVisualDim, 1, 1<<12), inRange("out_visual_dim", c.OutVisualDim, 1, 1<<12),
		inRange("in_text_dim", c.InTextDim, 1, maxWidth), inRange("in_text_dim2", c.InTextDim2, 1, maxWidth),
		inRange("time_dim", c.TimeDim, 1, maxWidth), inRange("model_dim", c.ModelDim, 2, maxWidth),
		inRange("ff_dim", c.FFDim, 1, maxWidth), inRange("num_text_blocks", c.NumTextBlocks, 0, maxLayers),
		inRange("num_visual_blocks", c.NumVisualBlocks, 1, maxLayers),
	)
	for axis := range 3 {
		err = firstError(err, inRange("patch_size", c.PatchSize[axis], 1, 16), inRange("axes_dims", c.AxesDims[axis], 2, 1<<12))
		if err == nil && c.AxesDims[axis]%2 != 0 {
			err = fmt.Errorf("axes_dims %v: each must be even, because rotation takes channels in pairs", c.AxesDims)
		}
	}
	switch {
	case err != nil:
	case c.ModelDim%c.HeadDim() != 0:
		err = fmt.Errorf("model_dim %d is not a multiple of the head width %d (the sum of axes_dims)", c.ModelDim, c.HeadDim())
	case c.ModelDim%2 != 0:
		err = errors.New("model_dim is odd")
	case c.InstructType != "" && c.InstructType != "channel":
		err = fmt.Errorf("instruct_type %q is unknown, want \"channel\" or nothing", c.InstructType)
	case c.AttentionP < 0 || c.AttentionP > 1:
		err = fmt.Errorf("attention_P is %g, want 0 to 1", c.AttentionP)
	}
	if err != nil {
		return fmt.Errorf("weights: transformer config: %w", err)
	}
	return nil
}
