package qwen

import (
	"context"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Options say how the weights are held.
type Options struct {
	Precision load.Precision
	// Quantize holds the linear layers of decoder and vision tower in 4 bits (package nf4), as upstream's --qwen_quantization
	// does; embedding, norms, patch embedding and lm_head stay as they are. What a checkpoint stores in 4 bits is held so in any case.
	Quantize bool
	// LayersInMemory is how many decoder layers are on the device at once; 0: as many as the device's budget holds
	// beside what Room needs.
	LayersInMemory int
	// Room is the work that memory is left for when LayersInMemory is 0. The zero value means two prompts of 385 ids:
	// Kandinsky's template, 256 ids of the user's, and the negative prompt.
	Room Work
	// Tier says where streamed layers wait; "" means swap.Mapped, as a prompt needs every layer once.
	Tier swap.HostTier
	// KeepHead keeps lm_head on the device from the first use on, which pays when a text is continued.
	KeepHead bool
}

// Work is a measure of what is computed at one time.
type Work struct {
	Tokens    []int // ids of each prompt
	Patches   int   // of the largest picture, 0 for none
	NewTokens int   // by which the only prompt is continued
	Logits    int   // rows whose logits are asked for at once
}

// Model holds the weights of the decoder.
type Model struct {
	Config      weights.QwenConfig
	device      *engine.Device
	reader      load.Reader
	precision   load.Precision
	quantize    bool
	act         engine.DType
	half        bool
	norm        load.Params // of the last state
	blocks      *load.Blocks
	swap        *swap.Swapper
	vision      visionLayout
	head        []engine.Tensor // pieces of lm_head that are kept
	keepHead    bool
	interrupted error // of a pass that ended between layers
}

// New reads the decoder's weights and brings to the device what the options keep there. Errors name the tensor, or are
// a *memory.BudgetError; nothing stays allocated after one. A checkpoint without vision tower serves for prompts
// without pictures.
func New(ctx context.Context, d *engine.Device, r load.Reader, config weights.QwenConfig, opts Options) (*Model, error) {
	l, err := layoutOf(config, r, opts.Precision, opts.Quantize)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: config, device: d, reader: r, precision: opts.Precision, quantize: opts.Quantize, act: opts.Precision.Activation(),
		half: opts.Precision == load.Mixed && d.Caps().Tier >= engine.TierFP16, blocks: l.blocks, keepHead: opts.KeepHead}
	if err := m.load(ctx, l, opts); err != nil {
		return nil, oneline.Join(err, m.Close())
	}
	return m, nil
}

func (m *Model) load(ctx context.Context, l layout, opts Options) error {
	if err := bindable(l.blocks.Layout, m.device.Caps().MaxStorageRange); err != nil {
		return err
	}
	layers := opts.LayersInMemory
	if layers == 0 {
		budget, left := m.device.Mem.Budget(memory.Device)
		p, err := newPlanner(m.Config, m.reader, l, opts, m.device.Mem.Left(), m.half)
		if err != nil {
			return err
		}
		layers = p.layersThatFit(left, budget > 0)
	}
	plan, err := swap.NewPlan(swap.Options{Blocks: l.blocks.Blocks(), Slots: layers})
	if err != nil {
		return fmt.Errorf("qwen: decoder layers: %w", err)
	}
	if m.norm, err = load.Resident(ctx, m.device, m.reader, l.norm, "qwen: final norm"); err != nil {
		return err
	}
	tier := opts.Tier
	if tier == "" {
		tier = swap.Mapped
	}
	m.swap, err = swap.New(ctx, m.device, l.blocks, swap.Config{Plan: plan, Tier: tier, Name: "qwen: decoder layers"})
	return err
}

// Counters returns what streaming of the layers did, and the plan it followed.
func (m *Model) Counters() (swap.Counters, swap.Plan) { return m.swap.Counters(), m.swap.Plan() }

// Close frees the weights. It returns an error of streaming that came too late for a pass. A second call does nothing.
func (m *Model) Close() error {
	var err error
	if m.swap != nil {
		err = m.swap.Close()
		m.swap = nil
	}
	for _, piece := range m.head {
		m.device.Free(piece)
	}
	m.head = nil
	m.norm.Free(m.device)
	m.norm = load.Params{}
	return err
}
