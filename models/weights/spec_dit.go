package weights

import "fmt"

// DiTSpec lists the tensors of a diffusion transformer (kandinsky-5, kandinsky/models/{dit,nn}.py). Linear weights
// are [out, in].
func DiTSpec(c DiTConfig) Spec {
	var s Spec
	d, td := c.ModelDim, c.TimeDim
	s.linear("time_embeddings.in_layer", td, d)
	s.linear("time_embeddings.out_layer", td, td)
	s.linear("text_embeddings.in_layer", d, c.InTextDim)
	s.affine("text_embeddings.norm", d)
	s.linear("pooled_text_embeddings.in_layer", td, c.InTextDim2)
	s.affine("pooled_text_embeddings.norm", td)
	s.linear("visual_embeddings.in_layer", d, c.PatchVolume()*c.InputChannels())
	for i := range c.NumTextBlocks {
		s = append(s, DiTTextBlockSpec(c, i)...)
	}
	for i := range c.NumVisualBlocks {
		s = append(s, DiTVisualBlockSpec(c, i)...)
	}
	s.linear("out_layer.modulation.out_layer", 2*d, td)
	s.linear("out_layer.out_layer", c.PatchVolume()*c.OutVisualDim, d)
	return s
}

// DiTTextBlockSpec lists the 14 tensors of text block i.
func DiTTextBlockSpec(c DiTConfig, i int) Spec {
	var s Spec
	prefix := fmt.Sprintf("text_transformer_blocks.%d.", i)
	s.linear(prefix+"text_modulation.out_layer", 6*c.ModelDim, c.TimeDim)
	s.ditAttention(prefix+"self_attention.", c)
	s.ditFeedForward(prefix+"feed_forward.", c)
	return s
}

// DiTVisualBlockSpec lists the 24 tensors of visual block i: what block swapping moves as one piece.
func DiTVisualBlockSpec(c DiTConfig, i int) Spec {
	var s Spec
	prefix := fmt.Sprintf("visual_transformer_blocks.%d.", i)
	s.linear(prefix+"visual_modulation.out_layer", 9*c.ModelDim, c.TimeDim)
	s.ditAttention(prefix+"self_attention.", c)
	s.ditAttention(prefix+"cross_attention.", c)
	s.ditFeedForward(prefix+"feed_forward.", c)
	return s
}

func (s *Spec) ditAttention(prefix string, c DiTConfig) {
	for _, name := range []string{"to_query", "to_key", "to_value"} {
		s.linear(prefix+name, c.ModelDim, c.ModelDim)
	}
	s.add(prefix+"query_norm.weight", c.HeadDim())
	s.add(prefix+"key_norm.weight", c.HeadDim())
	s.linear(prefix+"out_layer", c.ModelDim, c.ModelDim)
}

func (s *Spec) ditFeedForward(prefix string, c DiTConfig) {
	s.add(prefix+"in_layer.weight", c.FFDim, c.ModelDim)
	s.add(prefix+"out_layer.weight", c.ModelDim, c.FFDim)
}
