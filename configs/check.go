package configs

// Limits no published model comes near; they keep sizes computed from a hostile file within 64 bits.
const (
	maxWidth  = 1 << 20
	maxBlocks = 4096
	maxSteps  = 10000
	// minResolution leaves a picture of 4×4 tokens.
	minResolution = 4 * PixelsPerToken
)

// Table lengths of the text encoders: positions the transformer has for text (kandinsky-5, kandinsky/models/nn.py)
// and CLIP's position table.
const (
	maxTextTokens = 1024
	maxCLIPTokens = 77
)

// check reports every value that has the right type but that no model can have.
func check(r *report, c *Config) {
	checkMetrics(r, &c.Metrics)
	m := &c.Model
	r.between("model.num_steps", m.NumSteps, 1, maxSteps)
	if m.GuidanceWeight < 0 {
		r.bad("model.guidance_weight", "must not be negative, got %g", m.GuidanceWeight)
	}
	checkDiT(r, "model.dit_params.", &m.DiT)
	checkAttention(r, &m.Attention)
	if m.VAE.Name != "hunyuan" {
		r.bad("model.vae.name", "must be hunyuan, got %q", m.VAE.Name)
	}
	r.between("model.text_embedder.qwen.max_length", m.Qwen.MaxLength, 1, maxTextTokens)
	r.between("model.text_embedder.clip.max_length", m.CLIP.MaxLength, 1, maxCLIPTokens)
	for key, path := range map[string]string{
		"model.checkpoint_path":                    m.CheckpointPath,
		"model.vae.checkpoint_path":                m.VAE.CheckpointPath,
		"model.text_embedder.qwen.checkpoint_path": m.Qwen.CheckpointPath,
		"model.text_embedder.qwen.processor_path":  m.Qwen.TokenizerPath,
		"model.text_embedder.clip.checkpoint_path": m.CLIP.CheckpointPath,
		"model.text_embedder.clip.tokenizer_path":  m.CLIP.TokenizerPath,
	} {
		if _, given := r.lines[key]; given && path == "" {
			r.bad(key, "must name a file or folder")
		}
	}
	checkMagRatios(r, c.MagRatios)
	if _, given := r.lines["block_swap.blocks_in_memory"]; given {
		r.between("block_swap.blocks_in_memory", c.BlockSwap.BlocksInMemory, 1, m.DiT.NumVisualBlocks)
	} else if c.BlockSwap.Enabled {
		r.bad("block_swap.enabled", "block swapping needs blocks_in_memory beside it")
	}
}

func (r *report) between(key string, v, low, high int) {
	if v < low {
		r.bad(key, "must be at least %d, got %d", low, v)
	} else if v > high {
		r.bad(key, "must be at most %d, got %d", high, v)
	}
}

func checkMetrics(r *report, m *Metrics) {
	if small := m.Resolution >= minResolution && m.Resolution < 512 && m.Resolution%PixelsPerToken == 0; !small && m.Resolution != 512 && m.Resolution != 1024 {
		r.bad("metrics.resolution", "must be 512 or 1024 (small models: a multiple of %d from %d), got %d", PixelsPerToken, minResolution, m.Resolution)
	}
	if _, given := r.lines["metrics.video_duration"]; given {
		r.between("metrics.video_duration", m.VideoDuration, 1, maxSeconds)
	}
	for _, f := range m.ScaleFactor {
		if f <= 0 {
			r.bad("metrics.scale_factor", "the factors must be positive, got %g", f)
			break
		}
	}
	if _, given := r.lines["metrics.scheduler_scale"]; given && m.SchedulerScale <= 0 {
		r.bad("metrics.scheduler_scale", "must be positive, got %g", m.SchedulerScale)
	}
}

func checkDiT(r *report, prefix string, d *DiTParams) {
	for _, w := range []struct {
		key   string
		value int
	}{
		{"in_visual_dim", d.InVisualDim}, {"out_visual_dim", d.OutVisualDim}, {"in_text_dim", d.InTextDim},
		{"in_text_dim2", d.InTextDim2}, {"time_dim", d.TimeDim}, {"model_dim", d.ModelDim}, {"ff_dim", d.FFDim},
	} {
		r.between(prefix+w.key, w.value, 1, maxWidth)
	}
	if d.InVisualDim != d.OutVisualDim {
		r.bad(prefix+"out_visual_dim", "must equal in_visual_dim (%d): the output is added to the latents; got %d", d.InVisualDim, d.OutVisualDim)
	}
	if d.PatchSize != [3]int{1, 2, 2} {
		r.bad(prefix+"patch_size", "must be 1, 2, 2, got %d, %d, %d", d.PatchSize[0], d.PatchSize[1], d.PatchSize[2])
	}
	r.between(prefix+"num_text_blocks", d.NumTextBlocks, 1, maxBlocks)
	r.between(prefix+"num_visual_blocks", d.NumVisualBlocks, 1, maxBlocks)
	checkHeads(r, prefix, d)
	switch d.AttentionEngine {
	case "", "auto", "flash_attention_2", "flash_attention_3", "sage", "sdpa":
	default:
		r.bad(prefix+"attention_engine", "must be auto, flash_attention_2, flash_attention_3, sage or sdpa, got %q", d.AttentionEngine)
	}
}

func checkHeads(r *report, prefix string, d *DiTParams) {
	for _, a := range d.AxesDims {
		// Rotation works on pairs of channels.
		if a < 2 || a%2 != 0 || a > maxWidth {
			r.bad(prefix+"axes_dims", "each must be an even number of channels from 2, got %d", a)
			return
		}
	}
	if d.ModelDim > 0 && d.ModelDim%d.HeadDim() != 0 {
		r.bad(prefix+"axes_dims", "their sum %d (the head size) does not divide model_dim %d into whole heads", d.HeadDim(), d.ModelDim)
	}
	if d.ModelDim%2 != 0 {
		r.bad(prefix+"model_dim", "must be even, got %d", d.ModelDim)
	}
}

func checkAttention(r *report, a *Attention) {
	const prefix = "model.attention."
	if a.P < 0 || a.P > 1 {
		r.bad(prefix+"P", "must be from 0 to 1, got %g", a.P)
	}
	for _, w := range []struct {
		key   string
		value int
	}{{"wT", a.WT}, {"wH", a.WH}, {"wW", a.WW}} {
		if _, given := r.lines[prefix+w.key]; given {
			r.between(prefix+w.key, w.value, 1, maxWidth)
		}
	}
}

// checkMagRatios asks for pairs (conditional, unconditional). The count need not match num_steps: upstream
// stretches the list to the steps it takes (kandinsky-5, kandinsky/magcache_utils.py).
func checkMagRatios(r *report, ratios []float64) {
	const key = "magcache.mag_ratios"
	if _, given := r.lines[key]; !given {
		return
	}
	if len(ratios) == 0 || len(ratios)%2 != 0 || len(ratios) > 2*maxSteps {
		r.bad(key, "must hold pairs of numbers, two for each step after the first (98 for 50 steps), got %d numbers", len(ratios))
		return
	}
	for _, v := range ratios {
		if v < 0 {
			r.bad(key, "must not hold negative numbers, got %g", v)
			return
		}
	}
}
