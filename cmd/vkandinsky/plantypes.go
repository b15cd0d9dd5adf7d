package main

import (
	"fmt"
	"io"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/convert"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// weightTypes is what the transformer's weights take, in each type that a file may have and in each way to hold blocks.
type weightTypes struct {
	Config     string         `json:"config"`
	Parameters int64          `json:"parameters"`
	Blocks     int            `json:"visual_blocks"`
	InMemory   int            `json:"blocks_in_memory"`
	Files      []convert.Size `json:"files"`
	Held       []heldBlocks   `json:"held"`
}

// heldBlocks is a way to hold visual blocks, in bytes.
type heldBlocks struct {
	Flags  string `json:"flags"`
	Block  int64  `json:"block_bytes"`         // in a slot, and on the bus
	Pinned int64  `json:"pinned_bytes"`        // of the streamed blocks
	Mapped int64  `json:"mapped_pinned_bytes"` // of staging, with --host-tier mapped; 0: not possible
	Bus    int64  `json:"bus_bytes_per_step"`
	AtMost bool   `json:"bounds,omitempty"` // block and bus are what is set aside: what moves is less
	Slots  int64  `json:"device_bytes"`     // of the slots, and of the room where a block is unpacked
}

// newWeightTypes computes everything from shapes: no file is read, no device asked.
func newWeightTypes(config *configs.Config, o kandinsky5.Options) (weightTypes, error) {
	c := kandinsky5.DiTConfig(config)
	out := weightTypes{Config: config.Name, Parameters: weights.DiTSpec(c.DiTConfig).Parameters(), Blocks: c.NumVisualBlocks, InMemory: o.BlocksInMemory}
	if out.InMemory == 0 {
		out.InMemory = min(2, c.NumVisualBlocks)
	}
	var err error
	if out.Files, err = convert.Sizes(c.DiTConfig); err != nil {
		return out, err
	}
	for _, way := range []struct {
		flags string
		o     dit.Options
	}{
		{"--host-weights bf16", dit.Options{}},
		{"--host-weights bf16z", dit.Options{Visual: dit.SwapOptions{Host: load.CodedWeights}}},
		{"--host-weights int8", dit.Options{Visual: dit.SwapOptions{Host: load.Int8Weights}}},
		{"--linear int8", dit.Options{Linear: load.LinearInt8}},
	} {
		way.o.Visual.Slots, way.o.Visual.Stream, way.o.Visual.Policy = out.InMemory, o.StreamSlots, o.SwapPolicy
		h, err := holdBlocks(c, way.o)
		if err != nil {
			return out, err
		}
		h.Flags, h.AtMost = way.flags, way.o.Visual.Host == load.CodedWeights
		out.Held = append(out.Held, h)
	}
	return out, nil
}

func holdBlocks(c dit.Config, o dit.Options) (heldBlocks, error) {
	r := dit.Request{Config: c, Reader: load.Synthetic(weights.BF16), Options: o, Size: dit.Size{Frames: 1, Height: 16, Width: 16}, TextRows: 1, Branches: 1}
	pinned, err := dit.Plan(r)
	if err != nil {
		return heldBlocks{}, err
	}
	h := heldBlocks{Block: pinned.BlockBytes, Pinned: pinned.Pinned, Bus: pinned.LoadedBytes, Slots: int64(pinned.Plan.Slots) * pinned.BlockBytes}
	for _, i := range pinned.Weights().Items() {
		if i.Label == "visual block, unpacked" {
			h.Slots += i.Bytes
		}
	}
	if o.Linear == load.LinearInt8 {
		return h, nil // rounded once, when they are read
	}
	r.Options.Visual.Tier = swap.Mapped
	mapped, err := dit.Plan(r)
	if err == nil {
		h.Mapped = mapped.Pinned
	}
	return h, err
}

func (w weightTypes) print(out io.Writer) error {
	fmt.Fprintf(out, "%s: transformer of %s parameters, %d visual blocks\n\n", w.Config, grouped(w.Parameters), w.Blocks)
	rows := []string{"type of file\tsize\tof it visual blocks"}
	for _, f := range w.Files {
		rows = append(rows, fmt.Sprintf("%s, %s\t%s\t%s", f.Type, f.Format, memory.Size(f.File), memory.Size(f.Blocks)))
	}
	if err := table(out, rows); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nwith %d blocks in memory, of any type of file:\n", w.InMemory)
	rows = []string{"\tblock\thost memory, pinned\thost memory, mapped\tbus in a step\tdevice"}
	for _, h := range w.Held {
		mapped := "not possible"
		if h.Mapped > 0 {
			mapped = memory.Size(h.Mapped) + " and the file's blocks as cache"
		}
		bus := memory.Size(h.Bus)
		if h.AtMost {
			bus = "at most " + bus
		}
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", h.Flags, memory.Size(h.Block), memory.Size(h.Pinned), mapped, bus, memory.Size(h.Slots)))
	}
	return table(out, rows)
}
