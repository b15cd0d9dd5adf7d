package qwen

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

const tokenTable = "model.embed_tokens.weight"

// layout says what the parts of the decoder are, in bytes and types.
type layout struct {
	norm   load.Group
	blocks *load.Blocks
}

func layoutOf(config weights.QwenConfig, r load.Reader, p load.Precision, quantize bool) (l layout, err error) {
	if err := config.Validate(); err != nil {
		return l, err
	}
	if d := config.Text.HeadDim(); d%8 != 0 || d > 512 {
		return l, fmt.Errorf("qwen: heads of %d channels are not supported: use a multiple of 8, at most 512", d)
	}
	if d := config.Vision.HiddenSize / config.Vision.NumHeads; d%8 != 0 || d > 512 {
		return l, fmt.Errorf("qwen: vision heads of %d channels are not supported: use a multiple of 8, at most 512", d)
	}
	spec := weights.QwenTextSpec(config)
	if l.norm, err = load.NewGroup(spec, "model.norm.", r, p); err != nil {
		return l, err
	}
	l.blocks, err = load.New4BitBlocks(spec, prefixes("model.layers.", config.Text.NumHiddenLayers), r, p, quantize)
	return l, err
}

// visionLayout says the same of the vision tower.
type visionLayout struct {
	patch, merger load.Group
	blocks        []load.Group
}

func visionLayoutOf(config weights.QwenConfig, r load.Reader, p load.Precision, quantize bool) (l visionLayout, err error) {
	spec := weights.QwenVisionSpec(config)
	if l.patch, err = load.NewGroup(spec, "visual.patch_embed.", r, p); err != nil {
		return l, err
	}
	if l.merger, err = load.New4BitGroup(spec, "visual.merger.", r, p, quantize); err != nil {
		return l, err
	}
	for _, prefix := range prefixes("visual.blocks.", config.Vision.Depth) {
		g, err := load.New4BitGroup(spec, prefix, r, p, quantize)
		if err != nil {
			return l, err
		}
		l.blocks = append(l.blocks, g)
	}
	return l, nil
}

func prefixes(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d.", prefix, i)
	}
	return out
}

// bindable refuses matrices in 4 bits that a device cannot bind whole, as kernels want them, or whose numbers these cannot
// count.
func bindable(g load.Group, limit int64) error {
	for _, e := range g.Entries {
		if e.NF4 != nil && (e.NF4.Bytes() > limit || e.NF4.Elements() > math.MaxUint32) {
			return fmt.Errorf("qwen: %s%s has %d bytes in 4 bits, more than this device binds at a time (%d): use the text encoder without quantization", g.Prefix, e.Name, e.NF4.Bytes(), limit)
		}
	}
	return nil
}
