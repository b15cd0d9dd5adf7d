package weights

import "strings"

// Component names one network of the pipeline.
type Component string

// The networks of the pipeline. AnyComponent leaves tensor names as they are.
const (
	AnyComponent Component = ""
	DiT          Component = "dit"
	VAE          Component = "vae"
	Qwen         Component = "qwen"
	CLIP         Component = "clip"
)

// Components lists the networks in the order in which they are reported.
func Components() []Component { return []Component{DiT, VAE, Qwen, CLIP} }

// canonical maps a stored tensor name to the published one. It returns false for tensors that belong to parts
// the pipeline does not use or that are computed instead of stored.
func (c Component) canonical(name string) (string, bool) {
	switch c {
	case DiT:
		return canonicalDiT(name)
	case Qwen:
		return canonicalQwen(name)
	case CLIP:
		return canonicalCLIP(name)
	}
	return name, true
}

// canonicalQwen undoes the renaming of newer transformers versions, which put the decoder and the vision tower
// under one "model." (transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py).
func canonicalQwen(name string) (string, bool) {
	if rest, ok := strings.CutPrefix(name, "model.language_model."); ok {
		name = "model." + rest
	} else if rest, ok := strings.CutPrefix(name, "model.visual."); ok {
		name = "visual." + rest
	}
	return name, !strings.HasSuffix(name, "rotary_emb.inv_freq") && !strings.HasSuffix(name, "rotary_pos_emb.inv_freq")
}

// canonicalCLIP keeps the text tower of a whole CLIP; files that hold only the text tower may lack its prefix.
func canonicalCLIP(name string) (string, bool) {
	for _, other := range []string{"vision_model.", "visual_projection.", "text_projection.", "logit_scale"} {
		if strings.HasPrefix(name, other) {
			return name, false
		}
	}
	if strings.HasSuffix(name, "position_ids") {
		return name, false
	}
	for _, part := range []string{"embeddings.", "encoder.", "final_layer_norm."} {
		if strings.HasPrefix(name, part) {
			return "text_model." + name, true
		}
	}
	return name, true
}
