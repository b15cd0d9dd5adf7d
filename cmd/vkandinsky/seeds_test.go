package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/media"
)

func TestParseSeeds(t *testing.T) {
	for list, want := range map[string][]uint64{
		"7": {7}, "1..3": {1, 2, 3}, "3, 7,20..22": {3, 7, 20, 21, 22}, "18446744073709551614..18446744073709551615": {1<<64 - 2, 1<<64 - 1}, "5..5": {5},
	} {
		if got, err := parseSeeds("seeds", list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s gives %v, %v", list, got, err)
		}
	}
	for _, list := range []string{" ", "a", "1..", "..1", "3..1", "1,", "-1", "1..2..3", "1,1", "1..3,2", "0..18446744073709551615", "0..999,1000", "18446744073709551616"} {
		if got, err := parseSeeds("seeds", list); err == nil {
			t.Errorf("%q gives %v", list, got)
		}
	}
}

func TestSeedsMakeClipsAndASheetOverAll(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	o := startOK(t, drawn("--prompt", "Snow.", "--seeds", "4..5", "-o", at("snow.png"))...)
	if want := at("snow-seed4.png") + "\n" + at("snow-seed5.png") + "\n"; o.stdout != want {
		t.Errorf("standard output has %q, want %q", o.stdout, want)
	}
	a, errA := os.ReadFile(at("snow-seed4.png"))
	b, errB := os.ReadFile(at("snow-seed5.png"))
	if errA != nil || errB != nil || bytes.Equal(a, b) {
		t.Errorf("the clips are alike (%v, %v)", errA, errB)
	}
	if r := readReceipt(t, at("snow-seed5.json")); r.Settings.Seed != 5 {
		t.Errorf("the seed is %d", r.Settings.Seed)
	}
	sheet, err := media.LoadImage(at("snow-seeds.png"))
	if err != nil || sheet.Height < 2*32 {
		t.Errorf("the sheet: %+v, %v", sheet, err)
	}
	for want, more := range map[string][]string{
		"exclude": {"--seeds", "1,2", "--seed", "3"}, "exclude each other": {"--seeds", "1,2", "--prompt-file", "x"}, "1..": {"--seeds", "1.."},
		"x.jpg": {"--seeds", "1", "--contact-sheet", "x.jpg"}, "written by the contact sheet": {"--seeds", "1", "--contact-sheet", at("new-seed1.png")},
	} {
		if status, _, stderr := invoke(t, drawn(append(more, "--prompt", "x", "-o", at("new.png"))...)...); status != exitBadInput || !strings.Contains(stderr, want) {
			t.Errorf("%v: status %d, %q", more, status, stderr)
		}
	}
}
