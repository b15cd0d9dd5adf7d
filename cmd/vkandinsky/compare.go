package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// compareOptions are the flags of compare.
type compareOptions struct{ json bool }

func compareCommand() *command {
	cmd := &command{
		name: "compare", args: "A B", summary: "name the first thing in which two clips' receipts differ",
		about: "Compares the receipts of two clips: settings, picture and weights, then what was computed, step by step, then the frames.\n" +
			"A and B are receipts, or clips with receipts beside them. What cannot by itself make clips differ, such as how memory was\n" +
			"held, is listed as a note. Where what was computed differs, what may be why stands before the notes: another driver, kernels,\n" +
			"tuned tiles, operands packed or not. Exit status 0 when the clips are the same, 1 when they differ, 2 when a receipt cannot be\n" +
			"read.",
		examples: []string{
			"vkandinsky compare dragon.json dragon-again.json",
			"vkandinsky compare --json monday/dragon.mp4 tuesday/dragon.mp4",
		},
	}
	var o compareOptions
	f := cmd.flags.group("Output")
	f.BoolVar(&o.json, "json", false, "print JSON")
	cmd.run = func(_ context.Context, c *console, args []string) error {
		if len(args) != 2 {
			return badInputf("compare takes two receipts, or clips with receipts beside them, not %d", len(args))
		}
		return o.run(c, args[0], args[1])
	}
	return cmd
}

func (o *compareOptions) run(c *console, nameA, nameB string) error {
	a, err := receipt.Read(receiptOf(nameA))
	if err != nil {
		return badInput(err)
	}
	b, err := receipt.Read(receiptOf(nameB))
	if err != nil {
		return badInput(err)
	}
	found := receipt.Compare(a, b)
	if o.json {
		err = c.printJSON(found)
	} else {
		err = printComparison(c.out, found)
	}
	if err == nil && !found.Same {
		err = fmt.Errorf("the clips differ, first in: %s", describe(*found.First))
	}
	return err
}

// receiptOf is the receipt beside a clip, or the path itself.
func receiptOf(path string) string {
	switch ext := filepath.Ext(path); strings.ToLower(ext) {
	case ".mp4", ".gif", ".png":
		return strings.TrimSuffix(path, ext) + ".json"
	}
	return path
}

// describe names what differs without its values.
func describe(d receipt.Difference) string {
	if string(d.Kind) == d.Name || d.Kind == receipt.KindStep {
		return d.Name
	}
	return string(d.Kind) + " " + d.Name
}

// printComparison writes a line for everything that differs.
func printComparison(w io.Writer, c receipt.Comparison) error {
	var rows []string
	for _, d := range c.Differences {
		rows = append(rows, "differs\t"+describe(d)+"\t"+quote(d.A)+"\t"+quote(d.B))
	}
	if c.Same {
		rows = append(rows, fmt.Sprintf("same\tsettings, weights, %d steps and frames", c.Steps))
	}
	for _, d := range c.Causes {
		rows = append(rows, "why?\t"+d.Name+"\t"+quote(d.A)+"\t"+quote(d.B))
	}
	for _, d := range c.Notes {
		if slices.Contains(c.Causes, d) {
			continue
		}
		rows = append(rows, "note\t"+d.Name+"\t"+quote(d.A)+"\t"+quote(d.B))
	}
	return table(w, rows)
}

// quote makes a value safe for a terminal and readable in a row. Digests keep their first digits, as long as they tell.
func quote(s string) string {
	const digits = 12
	if len(s) >= 64 && strings.Trim(s, "0123456789abcdef… ") == "" {
		return s[:digits] + "…"
	}
	if s == "" {
		return "none"
	}
	if strings.ContainsAny(s, " \t\n\"") || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
