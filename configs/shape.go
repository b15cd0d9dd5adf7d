package configs

// HeadDim returns the channels per attention head: the sum of the rotary axes.
func (d *DiTParams) HeadDim() int { return d.AxesDims[0] + d.AxesDims[1] + d.AxesDims[2] }

// Heads returns the number of attention heads.
func (d *DiTParams) Heads() int { return d.ModelDim / d.HeadDim() }

// InChannels returns the channels of the transformer's input per latent position: the latents, and with
// VisualCond as many conditioning channels and a mask.
func (d *DiTParams) InChannels() int {
	if d.VisualCond {
		return 2*d.InVisualDim + 1
	}
	return d.InVisualDim
}

// PatchVolume returns how many latent positions make one token.
func (d *DiTParams) PatchVolume() int { return d.PatchSize[0] * d.PatchSize[1] * d.PatchSize[2] }

// attentionParameters counts four linears with bias and the two norm gains of one attention.
func (d *DiTParams) attentionParameters() int64 {
	m := int64(d.ModelDim)
	return 4*(m*m+m) + 2*int64(d.HeadDim())
}

// modulationParameters counts the linear that makes n scale, shift and gate vectors.
func (d *DiTParams) modulationParameters(n int64) int64 {
	return n * int64(d.ModelDim) * (int64(d.TimeDim) + 1)
}

func (d *DiTParams) feedForwardParameters() int64 { return 2 * int64(d.ModelDim) * int64(d.FFDim) }

// TextBlockParameters returns the number of weights in one text block.
func (d *DiTParams) TextBlockParameters() int64 {
	return d.modulationParameters(6) + d.attentionParameters() + d.feedForwardParameters()
}

// VisualBlockParameters returns the number of weights in one visual block, the unit of block swapping.
func (d *DiTParams) VisualBlockParameters() int64 {
	return d.modulationParameters(9) + 2*d.attentionParameters() + d.feedForwardParameters()
}

// OtherParameters returns the number of weights outside the blocks.
func (d *DiTParams) OtherParameters() int64 {
	m, t := int64(d.ModelDim), int64(d.TimeDim)
	volume := int64(d.PatchVolume())
	time := t*m + t + t*t + t
	text := m*int64(d.InTextDim) + m + 2*m
	pooled := t*int64(d.InTextDim2) + t + 2*t
	visual := m*volume*int64(d.InChannels()) + m
	out := volume * int64(d.OutVisualDim) * (m + 1)
	return time + text + pooled + visual + out + d.modulationParameters(2)
}

// Parameters returns the number of weights of the whole transformer.
func (d *DiTParams) Parameters() int64 {
	return int64(d.NumTextBlocks)*d.TextBlockParameters() + int64(d.NumVisualBlocks)*d.VisualBlockParameters() + d.OtherParameters()
}
