package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
)

// maxSeeds bounds a list: a range is written down quickly.
const maxSeeds = 1000

// seedOrders are clips that differ in their seeds.
func seedOrders(f *flags, list string) ([]order, error) {
	if f.changed("seed") {
		return nil, badInputf("--seed and --seeds exclude each other")
	}
	seeds, err := parseSeeds(list)
	if err != nil {
		return nil, err
	}
	out := make([]order, len(seeds))
	for k, seed := range seeds {
		number := strconv.FormatUint(seed, 10)
		out[k] = order{"seed " + number, []promptfile.Value{{Name: "seed", Text: number}}, "seed" + number}
	}
	return out, nil
}

// parseSeeds reads numbers and ranges: 3,7,20..22.
func parseSeeds(list string) ([]uint64, error) {
	var out []uint64
	seen := map[uint64]bool{}
	for _, part := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "..")
		from, err := strconv.ParseUint(first, 10, 64)
		to := from
		if err == nil && isRange {
			to, err = strconv.ParseUint(last, 10, 64)
		}
		if err != nil || to < from {
			return nil, badInputf("--seeds %q: write numbers and ranges, such as 3,7,20..22", list)
		}
		if to-from >= maxSeeds || len(out)+int(to-from) >= maxSeeds {
			return nil, badInputf("--seeds %q: more than %d seeds", list, maxSeeds)
		}
		for n := uint64(0); n <= to-from; n++ {
			seed := from + n
			if seen[seed] {
				return nil, badInputf("--seeds %q: %d is there twice", list, seed)
			}
			seen[seed] = true
			out = append(out, seed)
		}
	}
	return out, nil
}

// sheetOverAll is the contact sheet's name: what was asked for, or one that goes with the clips'.
func (o *generateOptions) sheetOverAll() (string, error) {
	path := o.output.sheet
	if path == "" {
		base := o.output.file
		if base == "" {
			base = "vkandinsky"
		}
		path = strings.TrimSuffix(base, filepath.Ext(base)) + "-seeds.png"
	}
	if !strings.EqualFold(filepath.Ext(path), ".png") {
		return "", badInputf("--contact-sheet %s: the sheet is a .png", path)
	}
	return path, badInput(media.CheckOutput(path))
}

// writeSheet writes a strip of frames for every clip.
func (m *many) writeSheet(ctx context.Context) error {
	if m.sheet == "" {
		return nil
	}
	sheet, err := media.Stack(m.strips)
	if err != nil {
		return err
	}
	if err := media.WritePNG(ctx, m.sheet, sheet); err != nil {
		return err
	}
	m.log.Info("contact sheet over all clips", "file", m.sheet)
	return nil
}
