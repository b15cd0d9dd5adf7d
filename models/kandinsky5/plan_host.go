package kandinsky5

import (
	"strings"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// HostPlan is what a run takes of the machine besides the device, in bytes.
type HostPlan struct {
	Clip       int64 `json:"clip_bytes"`                // the finished frames
	Conditions int64 `json:"conditions_bytes"`          // what the text blocks gave for all steps
	Quantized  int64 `json:"quantized_bytes,omitempty"` // matrices of the text encoder that were made 4 bits, until the text is encoded
	// RAM is the most at a time of pinned memory with clip and conditions, or with what was quantized; the page cache's part is
	// not counted.
	RAM int64 `json:"ram_bytes"`
	// Checkpoint is what is read of the checkpoint, at least once; DiskPerStep what is read again in every step, from the page
	// cache where that holds it.
	Checkpoint  int64 `json:"checkpoint_bytes"`
	DiskPerStep int64 `json:"read_bytes_per_step"`
}

// leastStaging is the pinned memory of one upload and one download at a time.
const leastStaging = 32 << 20

// staging is the pinned memory that uploads and downloads take beside other: a shared chunk each, or what weights are read through
// at a time; less where memory is short.
func (p *planner) staging(other []PlanItem, weights int64) int64 {
	chunk, room := p.cut().ChunkBytes(), p.limits.Host
	chunks := chunk + max(chunk, weights)
	if room == 0 {
		return chunks
	}
	for _, i := range other {
		room -= i.Bytes
	}
	return min(chunks, max(room, leastStaging))
}

// host counts the host's part, when everything else is planned.
func (p *planner) host() error {
	s, h := p.out.Settings, &p.out.Host
	g := s.Geometry
	h.Clip = 3 * int64(g.Frames) * int64(s.Size.Height) * int64(s.Size.Width)
	for _, rows := range p.rows {
		h.Conditions += int64(s.Steps) * int64(rows) * int64(p.config.Model.DiT.ModelDim) * p.opts.Precision.Activation().Size()
	}
	h.RAM = p.out.Pinned + h.Clip + h.Conditions
	for _, stage := range p.out.Stages {
		kept := int64(0)
		for _, i := range stage.Items {
			if i.Where == OnHost {
				kept += i.Bytes
			}
		}
		h.Quantized = max(h.Quantized, kept)
		h.RAM = max(h.RAM, stage.Pinned+kept)
	}
	blocks := int64(0) // of the checkpoint, in the visual blocks
	parts := []struct {
		spec   weights.Spec
		reader load.Reader
	}{
		{weights.DiTSpec(DiTConfig(p.config).DiTConfig), p.nets.dit},
		{p.qwenSpec(), p.nets.qwen},
		{weights.CLIPSpec(p.nets.clipConfig), p.nets.clip},
	}
	if s.resume != nil {
		parts = parts[:1]
	}
	for _, part := range parts {
		for _, t := range part.spec {
			n, err := load.StoredBytes(part.reader, t.Name, t.Elements())
			if err != nil {
				return err
			}
			h.Checkpoint += n
			if strings.HasPrefix(t.Name, "visual_transformer_blocks.") {
				blocks += n
			}
		}
	}
	spec := weights.VAESpec(p.nets.vae)
	if p.nets.vaeDecodes {
		spec = weights.VAEDecoderSpec(p.nets.vae)
	}
	h.Checkpoint += spec.Parameters() * int64(p.nets.vaeStored.Size())
	h.DiskPerStep = blocks * int64(len(p.out.Swap.Streamed)-p.out.Choice.PinnedBlocks) / int64(p.out.Swap.Blocks)
	return nil
}

// qwenSpec lists what is read of the language model: not the token table, of which only rows are.
func (p *planner) qwenSpec() weights.Spec {
	spec := weights.QwenTextSpec(p.nets.qwenConfig)
	if p.out.Settings.expands() {
		spec = expansionSpec(p.nets.qwenConfig, p.out.Settings.image != nil)
	}
	return spec.Filter(func(name string) bool { return name != "model.embed_tokens.weight" })
}
