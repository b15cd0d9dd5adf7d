package weights

import "fmt"

// QwenSpec lists all tensors of Qwen2.5-VL under their published names: decoder, lm_head unless it is tied to the
// embedding, and vision tower (transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py).
func QwenSpec(c QwenConfig) Spec {
	s := QwenTextSpec(c)
	if !c.TieWordEmbeddings {
		s.add("lm_head.weight", c.Text.VocabSize, c.Text.HiddenSize)
	}
	return append(s, QwenVisionSpec(c)...)
}

// QwenTextSpec lists the tensors that encoding a prompt needs: the decoder without lm_head.
func QwenTextSpec(c QwenConfig) Spec {
	var s Spec
	t := c.Text
	kv := t.NumKeyValueHeads * t.HeadDim()
	s.add("model.embed_tokens.weight", t.VocabSize, t.HiddenSize)
	for i := range t.NumHiddenLayers {
		p := fmt.Sprintf("model.layers.%d.", i)
		s.add(p+"input_layernorm.weight", t.HiddenSize)
		s.linear(p+"self_attn.q_proj", t.HiddenSize, t.HiddenSize)
		s.linear(p+"self_attn.k_proj", kv, t.HiddenSize)
		s.linear(p+"self_attn.v_proj", kv, t.HiddenSize)
		s.add(p+"self_attn.o_proj.weight", t.HiddenSize, t.HiddenSize)
		s.add(p+"post_attention_layernorm.weight", t.HiddenSize)
		s.add(p+"mlp.gate_proj.weight", t.IntermediateSize, t.HiddenSize)
		s.add(p+"mlp.up_proj.weight", t.IntermediateSize, t.HiddenSize)
		s.add(p+"mlp.down_proj.weight", t.HiddenSize, t.IntermediateSize)
	}
	s.add("model.norm.weight", t.HiddenSize)
	return s
}

// QwenVisionSpec lists the tensors of the vision tower.
func QwenVisionSpec(c QwenConfig) Spec {
	var s Spec
	v := c.Vision
	merged := v.HiddenSize * v.SpatialMergeSize * v.SpatialMergeSize
	s.add("visual.patch_embed.proj.weight", v.HiddenSize, v.InChans, v.TemporalPatchSize, v.PatchSize, v.PatchSize)
	for i := range v.Depth {
		p := fmt.Sprintf("visual.blocks.%d.", i)
		s.add(p+"norm1.weight", v.HiddenSize)
		s.linear(p+"attn.qkv", 3*v.HiddenSize, v.HiddenSize)
		s.linear(p+"attn.proj", v.HiddenSize, v.HiddenSize)
		s.add(p+"norm2.weight", v.HiddenSize)
		s.linear(p+"mlp.gate_proj", v.IntermediateSize, v.HiddenSize)
		s.linear(p+"mlp.up_proj", v.IntermediateSize, v.HiddenSize)
		s.linear(p+"mlp.down_proj", v.HiddenSize, v.IntermediateSize)
	}
	s.add("visual.merger.ln_q.weight", v.HiddenSize)
	s.linear("visual.merger.mlp.0", merged, merged)
	s.linear("visual.merger.mlp.2", v.OutHiddenSize, merged)
	return s
}

// CLIPSpec lists the tensors of the CLIP text tower (transformers, models/clip/modeling_clip.py).
func CLIPSpec(c CLIPConfig) Spec {
	var s Spec
	d := c.HiddenSize
	s.add("text_model.embeddings.token_embedding.weight", c.VocabSize, d)
	s.add("text_model.embeddings.position_embedding.weight", c.MaxPositionEmbeddings, d)
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("text_model.encoder.layers.%d.", i)
		s.affine(p+"layer_norm1", d)
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			s.linear(p+"self_attn."+name, d, d)
		}
		s.affine(p+"layer_norm2", d)
		s.linear(p+"mlp.fc1", c.IntermediateSize, d)
		s.linear(p+"mlp.fc2", d, c.IntermediateSize)
	}
	s.affine("text_model.final_layer_norm", d)
	return s
}
