package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestABatchKeepsToItsWeights makes drafts and changes, before they are finished, what they are made of: the text encoder, of which
// states say nothing, the configuration, and an adapter. Each is refused in a line, and taken again when it is put back.
func TestABatchKeepsToItsWeights(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	model := at("model")
	if err := os.CopyFS(model, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	adapter, config := at("adapter.safetensors"), filepath.Join(model, "t2v.yaml")
	if err := os.WriteFile(adapter, read(t, tinyAdapter(t, tinyModule, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	startOK(t, "generate", "--checkpoint-dir", model, "--config", config, "--width", "32", "--height", "32", "--video-duration", "0", "--sample-steps", "2", "--blocks-in-memory", "2", "--expand-prompt", "0",
		"--prompt", "Snow.", "--lora", adapter, "--seeds", "1,2", "--draft-steps", "1", "-o", at("x.png"))
	goOn := []string{"generate", "--resume", at("x.png.batch"), "--continue", "2"}
	qwen, err := filepath.Glob(filepath.Join(model, "text_encoder", "*.safetensors"))
	if err != nil || len(qwen) == 0 {
		t.Fatal("no text encoder", err)
	}
	for _, c := range []struct {
		path, want string
		change     func([]byte) []byte
	}{
		{qwen[0], `weights of "qwen" are not those`, func(data []byte) []byte {
			for k := len(data) / 2; k < len(data); k += 1000 { // a byte of every thousand
				data[k] ^= 1
			}
			return data
		}},
		{config, "configuration", func(data []byte) []byte {
			return bytes.Replace(data, []byte("num_steps:"), []byte("num_steps: 3 #"), 1)
		}},
		{adapter, "LoRA adapter " + adapter + " has changed", func([]byte) []byte { return read(t, tinyAdapter(t, tinyModule, 2)) }},
	} {
		was := read(t, c.path)
		now := c.change(bytes.Clone(was))
		if bytes.Equal(was, now) {
			t.Fatalf("%s is as it was", c.path)
		}
		if err := os.WriteFile(c.path, now, 0o600); err != nil {
			t.Fatal(err)
		}
		start(t, goOn...).wantLine(t, exitBadInput, c.want)
		if err := os.WriteFile(c.path, was, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startOK(t, goOn...)
}
