package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// linesWith counts those of a text that contain a word.
func linesWith(text, word string) (n int) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, word) {
			n++
		}
	}
	return n
}

const otherBits = "last bits may come out otherwise"

// otherRounding has the receipt of another device, which packed operands: its clip is to be repeated here, and compared. TestReceipts
// runs it.
func otherRounding(t *testing.T, dir string, r *receipt.Receipt) {
	now := r.Rounding
	if now.Device == "" || now.Driver == "" || now.Kernels == "" || now.Matrices == "" || now.Operands != receipt.PlainOperands || now.Tuned != "none" || len(now.Code) != 16 || now.Tiles == "" {
		t.Errorf("the receipt says %+v", now)
	}
	elsewhere, path := *r, filepath.Join(dir, "elsewhere.json")
	elsewhere.Rounding.Operands, elsewhere.Rounding.Device = receipt.PackedOperands, "another card"
	elsewhere.Digests.Latents = append([]string{receipt.Sum([]byte("other bits"))}, r.Digests.Latents[1:]...)
	f, err := os.Create(path)
	if err == nil {
		err = elsewhere.Write(f)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	o := startOK(t, "--from", path, "-o", filepath.Join(dir, "here.png"))
	if linesWith(o.stderr, otherBits) != 1 || !strings.Contains(o.stderr, "operands of linear layers: packed there, not packed here") || !strings.Contains(o.stderr, "another card there") {
		t.Errorf("standard error does not say in one line that bits may differ:\n%s", o.stderr)
	}
	if !strings.Contains(o.stderr, `cause="device, operands of linear layers"`) {
		t.Errorf("the end does not name causes:\n%s", o.stderr)
	}
	o = start(t, "compare", path, filepath.Join(dir, "here.json"))
	o.wantLine(t, exitFailed, "latent after step 1")
	if linesWith(o.stdout, "why?") != 2 || !strings.Contains(o.stdout, "operands of linear layers") {
		t.Errorf("compare names no causes:\n%s", o.stdout)
	}
}

// elsewhereState has the state of a run that another device began.
func elsewhereState(t *testing.T, state string) {
	s, err := kandinsky5.ReadState(state)
	if err != nil {
		t.Fatal(err)
	}
	if s.Rounding.Device == "" || s.Rounding.Operands != receipt.PlainOperands || s.Rounding.Tiles == "" {
		t.Errorf("the state says %+v", s.Rounding)
	}
	s.Rounding.Device, s.Rounding.Operands, s.Step = "another card", receipt.PackedOperands, s.Settings.Steps-1
	s.Hashes = nil
	path := filepath.Join(t.TempDir(), "elsewhere.state")
	if err := kandinsky5.WriteState(path, s); err != nil {
		t.Fatal(err)
	}
	output := filepath.Join(t.TempDir(), "z.png")
	o := startOK(t, "generate", "--resume", path, "-o", output)
	if linesWith(o.stderr, otherBits) != 1 || !strings.Contains(o.stderr, "packed there, not packed here") {
		t.Errorf("standard error does not say in one line that bits may differ:\n%s", o.stderr)
	}
	r := readReceipt(t, strings.TrimSuffix(output, ".png")+".json")
	if want := "packed to step 5, then not packed"; r.Rounding.Operands != want || !strings.HasPrefix(r.Rounding.Device, "another card to step 5, then ") {
		t.Errorf("the receipt says %+v", r.Rounding)
	}
}
