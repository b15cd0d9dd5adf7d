package main

import (
	"bytes"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// TestAnAdaptedRunInIntegersIsContinuedAndRepeated has an adapter, linear layers in int8 and the text encoder in 4 bits in one
// run, which is made in one go, with a lost device, from its last state, and from its receipt.
func TestAnAdaptedRunInIntegersIsContinuedAndRepeated(t *testing.T) {
	dir, adapter := t.TempDir(), tinyAdapter(t, tinyModule, 1)
	in := func(name string) string { return filepath.Join(dir, name) }
	with := func(name string, more ...string) []string {
		return picture(in(name), append([]string{"--sample-steps", "3", "--lora", adapter + ":0.5", "--linear", "int8", "--qwen-quantization"}, more...)...)
	}
	startOK(t, with("a.png", "--keep-state")...)
	whole := read(t, in("a.png"))
	r, err := receipt.Read(in("a.json"))
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Settings; s.Linear != "int8" || !s.QuantizeQwen || len(s.LoRA) != 1 || s.LoRA[0].Weight != 0.5 || r.Weights[len(r.Weights)-1].Network != "lora" {
		t.Errorf("the receipt says %+v, weights %+v", s, r.Weights)
	}

	startOK(t, with("b.png", "--fault", "step=2")...)
	if !bytes.Equal(read(t, in("b.png")), whole) {
		t.Error("with a lost device it is another picture")
	}
	startOK(t, "compare", in("a.json"), in("b.json"))

	start(t, "generate", "--resume", in("a.png.state"), "--lora", adapter).wantLine(t, exitBadInput, "--lora", "contradicts the state")
	start(t, "generate", "--resume", in("a.png.state"), "--linear", "full").wantLine(t, exitBadInput, "--linear", "contradicts the state")
	startOK(t, "generate", "--resume", in("a.png.state"), "--keep-state", "-o", in("c.png"))
	if !bytes.Equal(read(t, in("c.png")), whole) {
		t.Error("continued it is another picture")
	}
	startOK(t, "compare", in("a.json"), in("c.json"))

	var again generated
	parseJSON(t, startOK(t, "generate", "--from", in("a.json"), "-o", in("d.png"), "--json").stdout, &again)
	if again.Repeats == nil || !again.Repeats.Same || again.Repeats.Steps != 3 {
		t.Errorf("repeated: %+v", again.Repeats)
	}
}
