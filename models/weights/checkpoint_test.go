package weights

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tiny is a safetensors file with the given F32 scalars.
func tiny(names ...string) []byte {
	var header strings.Builder
	for i, n := range names {
		if i > 0 {
			header.WriteByte(',')
		}
		fmt.Fprintf(&header, `%q:{"dtype":"F32","shape":[],"data_offsets":[%d,%d]}`, n, 4*i, 4*i+4)
	}
	return raw("{"+header.String()+"}", make([]byte, 4*len(names)))
}

// folder writes files into a fresh folder.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpenCheckpointFindsTheFiles(t *testing.T) {
	index := []byte(`{"metadata":{"total_size":8},"weight_map":{"a":"m-1.safetensors","b":"sub/m-2.safetensors"}}`)
	cases := []struct {
		name  string
		files map[string][]byte
		open  string
		want  []string
		err   string
	}{
		{name: "a single file", files: map[string][]byte{"m.safetensors": tiny("a", "b")}, open: "m.safetensors", want: []string{"a", "b"}},
		{name: "a folder with one file", files: map[string][]byte{"m.safetensors": tiny("a"), "config.json": nil, "._m.safetensors": {1}}, want: []string{"a"}},
		{name: "a folder with an index", files: map[string][]byte{"m.safetensors.index.json": index, "m-1.safetensors": tiny("a"),
			"sub/m-2.safetensors": tiny("b", "unmapped")}, want: []string{"a", "b"}},
		{name: "the index itself", files: map[string][]byte{"m.safetensors.index.json": index, "m-1.safetensors": tiny("a"),
			"sub/m-2.safetensors": tiny("b")}, open: "m.safetensors.index.json", want: []string{"a", "b"}},
		{name: "an empty folder", files: nil, err: "no .safetensors or .gguf file"},
		{name: "two files without index", files: map[string][]byte{"a.safetensors": tiny("a"), "b.safetensors": tiny("b")}, err: "a.safetensors, b.safetensors"},
		{name: "two indexes", files: map[string][]byte{"a.safetensors.index.json": index, "b.safetensors.index.json": index}, err: "several index files"},
		{name: "a missing shard", files: map[string][]byte{"m.safetensors.index.json": index, "m-1.safetensors": tiny("a")}, err: "m-2.safetensors"},
		{name: "a shard without its tensor", files: map[string][]byte{"m.safetensors.index.json": index, "m-1.safetensors": tiny("a"),
			"sub/m-2.safetensors": tiny("c")}, err: `"b" is missing`},
		{name: "a truncated shard", files: map[string][]byte{"m.safetensors.index.json": index, "m-1.safetensors": tiny("a"),
			"sub/m-2.safetensors": tiny("b")[:20]}, err: "truncated"},
		{name: "an absent path", open: "nowhere", err: "nowhere"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ckpt, err := OpenCheckpoint(filepath.Join(folder(t, c.files), c.open))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want one that says %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ckpt.Names(), c.want) {
				t.Errorf("names %v, want %v", ckpt.Names(), c.want)
			}
			for range 2 {
				if err := ckpt.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestParseIndexRefusesEscapesAndNonsense(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{}`, `{"weight_map":{}}`, `{"weight_map":{"a":5}}`, `{"weight_map":[]}`, `{"weight_map":{"a":"x.safetensors"}`,
		`{"weight_map":{"a":"../x.safetensors"}}`, `{"weight_map":{"a":"/x.safetensors"}}`, `{"weight_map":{"a":"s/../../x.safetensors"}}`,
		`{"weight_map":{"a":"..\\x.safetensors"}}`, `{"weight_map":{"a":"x.bin"}}`, `{"weight_map":{"a":""}}`,
		`{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}`, `{"weight_map":{"a":"x.safetensors"},"weight_map":{}}`,
		`{"weight_map":{"a":"x.safetensors"}} tail`,
	} {
		if m, err := parseIndex([]byte(text)); err == nil {
			t.Errorf("%s gave %v", text, m)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{"a":"x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseIndex(data)
		if err != nil {
			return
		}
		for name, shard := range m {
			full := filepath.Join("root", filepath.FromSlash(shard))
			if !strings.HasPrefix(full, "root"+string(filepath.Separator)) {
				t.Fatalf("%q escapes to %q", name, full)
			}
		}
	})
}

func TestComponentsMapNamesToThePublishedOnes(t *testing.T) {
	cases := []struct {
		c            Component
		stored, want string // want "" = ignored
	}{
		{Qwen, "model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"},
		{Qwen, "model.visual.merger.ln_q.weight", "visual.merger.ln_q.weight"},
		{Qwen, "model.norm.weight", "model.norm.weight"},
		{Qwen, "lm_head.weight", "lm_head.weight"},
		{CLIP, "encoder.layers.1.mlp.fc1.bias", "text_model.encoder.layers.1.mlp.fc1.bias"},
		{CLIP, "text_model.encoder.layers.1.mlp.fc1.bias", "text_model.encoder.layers.1.mlp.fc1.bias"},
		{CLIP, "vision_model.encoder.layers.1.mlp.fc1.bias", ""},
		{CLIP, "visual_projection.weight", ""}, {CLIP, "text_projection.weight", ""}, {CLIP, "logit_scale", ""},
		{CLIP, "text_model.embeddings.position_ids", ""},
		{DiT, "visual_rope_embeddings.args_0", ""}, {DiT, "time_embeddings.freqs", ""},
		{DiT, "out_layer.out_layer.weight", "out_layer.out_layer.weight"},
		{VAE, "encoder.conv_in.conv.weight", "encoder.conv_in.conv.weight"},
	}
	for _, c := range cases {
		t.Run(string(c.c)+" "+c.stored, func(t *testing.T) {
			f, err := OpenBytes("mem", tiny("x."+c.stored))
			if err != nil {
				t.Fatal(err)
			}
			ckpt, err := NewCheckpoint([]*File{f}, OpenOptions{Component: c.c, Prefix: "x."})
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				if len(ckpt.Names()) != 0 || len(ckpt.Ignored()) != 1 {
					t.Errorf("names %v, ignored %v", ckpt.Names(), ckpt.Ignored())
				}
				return
			}
			if ten, ok := ckpt.Tensor(c.want); !ok || ten.Name != c.want {
				t.Errorf("no %q in %v", c.want, ckpt.Names())
			}
		})
	}
}

func TestTwoStoredNamesForOneTensorAreRefused(t *testing.T) {
	path := writeTemp(t, "m.safetensors", tiny("model.norm.weight", "model.language_model.norm.weight"))
	if _, err := OpenComponent(path, Qwen); err == nil || !strings.Contains(err.Error(), "also in") {
		t.Errorf("error %v", err)
	}
}

func TestRequireNamesFileAndTensor(t *testing.T) {
	f, err := OpenBytes("mem.safetensors", raw(`{"i":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]}}`, make([]byte, 16)))
	if err != nil {
		t.Fatal(err)
	}
	ckpt, err := NewCheckpoint([]*File{f}, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ckpt.Require("w", 2, 3); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		name  string
		shape []int
	}{{"absent", []int{1}}, {"w", []int{3, 2}}, {"w", []int{6}}, {"i", []int{1}}} {
		if _, err := ckpt.Require(c.name, c.shape...); err == nil || !strings.Contains(err.Error(), c.name) || !strings.Contains(err.Error(), "mem.safetensors") {
			t.Errorf("Require(%q, %v): %v", c.name, c.shape, err)
		}
	}
}

func TestCheckFiniteOfACheckpointStopsWithItsContext(t *testing.T) {
	f, err := OpenBytes("mem", tiny("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	ckpt, err := NewCheckpoint([]*File{f}, OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ckpt.CheckFinite(context.Background()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := ckpt.CheckFinite(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancel: %v", err)
	}
}
