package weights

import "fmt"

// Differences lists, one line each, in which sizes another transformer's configuration differs from this one, the wanted
// one. Attention settings are left out: they change no tensor.
func (c DiTConfig) Differences(have DiTConfig) []string {
	var out []string
	add := func(name string, want, got any) {
		if want != got {
			out = append(out, fmt.Sprintf("%s is %v, the configuration says %v", name, got, want))
		}
	}
	add("in_visual_dim", c.InVisualDim, have.InVisualDim)
	add("out_visual_dim", c.OutVisualDim, have.OutVisualDim)
	add("in_text_dim", c.InTextDim, have.InTextDim)
	add("in_text_dim2", c.InTextDim2, have.InTextDim2)
	add("time_dim", c.TimeDim, have.TimeDim)
	add("patch_size", c.PatchSize, have.PatchSize)
	add("model_dim", c.ModelDim, have.ModelDim)
	add("ff_dim", c.FFDim, have.FFDim)
	add("num_text_blocks", c.NumTextBlocks, have.NumTextBlocks)
	add("num_visual_blocks", c.NumVisualBlocks, have.NumVisualBlocks)
	add("axes_dims", c.AxesDims, have.AxesDims)
	add("input channels", c.InputChannels(), have.InputChannels())
	return out
}
