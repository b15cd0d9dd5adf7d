package clip

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Options say how the tower computes.
type Options struct {
	Precision load.Precision
}

// Model holds the weights of a text tower.
type Model struct {
	Config weights.CLIPConfig
	device *engine.Device
	reader load.Reader
	params load.Params
	half   bool
}

const (
	prefix     = "text_model."
	tokenTable = prefix + "embeddings.token_embedding.weight"
)

// New reads the weights and brings them to the device. Errors name the tensor, or are a *memory.BudgetError; nothing
// stays allocated after one.
func New(ctx context.Context, d *engine.Device, r load.Reader, config weights.CLIPConfig, opts Options) (*Model, error) {
	group, err := layout(config, r, opts.Precision)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: config, device: d, reader: r, half: half(d, opts.Precision)}
	if m.params, err = load.Resident(ctx, d, r, group, "CLIP"); err != nil {
		return nil, fmt.Errorf("CLIP: %w", err)
	}
	return m, nil
}

func half(d *engine.Device, p load.Precision) bool {
	return p == load.Mixed && d.Caps().Tier >= engine.TierFP16
}

// layout lists what is on the device: everything but the token embedding.
func layout(config weights.CLIPConfig, r load.Reader, p load.Precision) (load.Group, error) {
	if err := config.Validate(); err != nil {
		return load.Group{}, err
	}
	if d := config.HiddenSize / config.NumAttentionHeads; d%4 != 0 || d > 512 {
		return load.Group{}, fmt.Errorf("CLIP with heads of %d channels is not supported: use a multiple of 4, at most 512", d)
	}
	spec := weights.CLIPSpec(config).Filter(func(name string) bool { return name != tokenTable })
	return load.NewGroup(spec, prefix, r, p)
}

// Close frees the weights. A second call does nothing.
func (m *Model) Close() {
	m.params.Free(m.device)
	m.params = load.Params{}
}

// Plan lists the device memory at the peak, in encoding a prompt of so many ids; the bytes add up to it. halved says
// whether the kernels multiply in fp16.
func Plan(config weights.CLIPConfig, r load.Reader, p load.Precision, tokens int, halved bool) ([]load.Item, error) {
	n, err := Need(config, r, p, tokens, memory.Cut{}, halved)
	if err != nil {
		return nil, err
	}
	return n.Items(), nil
}

// Need is Plan for an allocator that cuts memory in a way.
func Need(config weights.CLIPConfig, r load.Reader, p load.Precision, tokens int, cut memory.Cut, halved bool) (*load.Need, error) {
	group, err := layout(config, r, p)
	if err != nil {
		return nil, err
	}
	n := &load.Need{Cut: cut}
	n.AddResident("CLIP", group)
	n.AddBuffers("encoding", hiddenBuffer(config, tokens))
	n.AddBuffers("encoding", buffers(config, tokens, halved)...)
	return n, nil
}
