package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// repeat is a receipt whose run is made again.
type repeat struct {
	file    string
	receipt *receipt.Receipt
	written string // its expanded prompt, where nothing that leads to it was changed
}

// apply gives the flags that the command line lacks the receipt's values. An output's name is never taken from it.
func (r *repeat) apply(f *flags) error {
	given := func(names ...string) bool {
		for _, name := range names {
			if f.changed(name) {
				return true
			}
		}
		return false
	}
	s, m := r.receipt.Settings, r.receipt.Memory
	if s.ExpandPrompt && !given("prompt", "image", "seed", "expand-prompt", "qwen-quantization", "config", "checkpoint-dir") {
		r.written = s.ExpandedPrompt
	}
	skip := map[string]bool{
		"expanded_prompt": true, "config_sha256": true, "lora": true, "lora_weights": true,
		"precision":         given("dtype"),
		"width":             given("image") && !s.SizeGiven,
		"height":            given("image") && !s.SizeGiven,
		"guidance_weight":   s.GuidanceWeight == 0,
		"enable_block_swap": given("blocks-in-memory") || m.BlocksInMemory == 0,
		"blocks_in_memory":  given("enable-block-swap") || m.BlocksInMemory == 0,
		"stream_slots":      given("enable-block-swap", "blocks-in-memory") || m.StreamSlots == 0,
		"vram_budget":       m.VRAMBudget == 0, "ram_budget": m.RAMBudget == 0, "qwen_layers_in_memory": m.QwenLayersInMemory == 0, "head_groups": m.HeadGroups == 0,
	}
	var fill []receipt.Pair
	for _, p := range append(s.Pairs(), m.Pairs()...) {
		empty := p.Value == "" && p.Name != "negative_prompt"
		if name := string(dashes(nil, p.Name)); !skip[p.Name] && !empty && !given(name) {
			fill = append(fill, receipt.Pair{Name: name, Value: p.Value})
		}
	}
	if !given("lora") {
		for _, l := range s.LoRA {
			fill = append(fill, receipt.Pair{Name: "lora", Value: l.Flag()})
		}
	}
	for _, p := range fill {
		if err := f.set(p.Name, p.Value); err != nil {
			return badInputf("receipt %s: %s: %w", r.file, p.Name, err)
		}
	}
	return nil
}

// picture finds the receipt's picture: where it was, beside the receipt, or, if none has the same bytes, one that lies
// there. No path but the picture's is opened, and only if it is a file.
func (r *repeat) picture(log *slog.Logger) (string, error) {
	want, dir := r.receipt.Picture, filepath.Dir(r.file)
	places := []string{want.Path}
	if !filepath.IsAbs(want.Path) {
		places = append(places, filepath.Join(dir, want.Path))
	}
	places = append(places, filepath.Join(dir, want.Path[strings.LastIndexAny(want.Path, `/\`)+1:]))
	other := ""
	for _, path := range places {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if info.Size() == want.Bytes {
			if sum, _, err := receipt.SumFile(path); err == nil && sum == want.SHA256 {
				return path, nil
			}
		}
		if other == "" {
			other = path
		}
	}
	if other == "" {
		return "", badInputf("receipt %s: its picture %s is not there: name it with --image", r.file, want.Path)
	}
	log.Warn("the picture is not the receipt's: the clip will be another", "picture", other)
	r.written = ""
	return other, nil
}

// openRepeat reads the receipt that --from names and joins it with the flags.
func (o *generateOptions) openRepeat(f *flags, log *slog.Logger) error {
	file := receiptOf(o.from)
	found, err := receipt.Read(file)
	if err != nil {
		return badInput(err)
	}
	r := &repeat{file: file, receipt: found}
	if f.changed("image") || found.Picture == nil {
		err = r.apply(f)
	} else {
		var path string
		if path, err = r.picture(log); err == nil {
			if err = r.apply(f); err == nil {
				err = f.set("image", path)
			}
		}
	}
	if err != nil {
		return err
	}
	if o.output.file == "" {
		base := filepath.Base(file)
		o.output.file = strings.TrimSuffix(base, filepath.Ext(base)) + "-again." + o.request.extension()
	}
	o.repeat = r
	return nil
}

// warn tells what already makes the clip another before anything is computed.
func (r *repeat) warn(log *slog.Logger, weights []receipt.Weights) {
	for _, w := range receipt.CompareWeights(r.receipt.Weights, weights) {
		log.Warn("the weights are not the receipt's: the clip will be another", "network", w.Name)
	}
}

// judge says whether the clip has come out the same.
func (r *repeat) judge(log *slog.Logger, now *receipt.Receipt) *receipt.Comparison {
	c := receipt.Compare(r.receipt, now)
	if c.Same {
		log.Info("the clip is the receipt's, bit by bit", "receipt", r.file, "steps", c.Steps)
	} else {
		log.Warn("the clip is not the receipt's", "receipt", r.file, "first difference", describe(*c.First), "was", strconv.QuoteToGraphic(c.First.A), "is", strconv.QuoteToGraphic(c.First.B), "cause", causesText(c.Causes))
	}
	return &c
}

// causesText names what may be why clips differ.
func causesText(causes []receipt.Difference) string {
	var names []string
	for _, d := range causes {
		names = append(names, d.Name)
	}
	if names == nil {
		return "nothing that is recorded"
	}
	return strings.Join(names, ", ")
}
