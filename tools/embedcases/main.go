// Command embedcases makes the golden cases that are embedded in the program (models/verify/embedded) from the full set:
// one case per component, cut and compressed so that together they stay small. Values are not touched.
//
// usage: go run ./tools/embedcases GOLDEN_FOLDER
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// part is one embedded case.
type part struct {
	file string
	// cases, where not nil, are the cases kept of a file with several: tensors "CASE.…" of the others are left out.
	cases []string
	// tensors, where not nil, are what is kept of each case.
	tensors []string
}

// parts cover every component: sparse attention (dit_nabla), full attention and guidance (sampler_cfg), both text
// encoders, the VAE both ways, pixels and noise, and a clip by the model inside the program.
func parts() []part {
	return []part{
		{file: "clip"}, {file: "dit_nabla"}, {file: "qwen"}, {file: "resize_bilinear_antialias"}, {file: "sampler_cfg"},
		{file: "torch_cuda_randn"}, {file: "vae", cases: []string{"enc_video", "dec_video"}},
		{file: "tiny", cases: []string{"english"}, tensors: []string{"image", "noise", "frames"}},
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: embedcases GOLDEN_FOLDER")
		os.Exit(2)
	}
	for _, p := range parts() {
		if err := p.write(os.Args[1], filepath.Join("models", "verify", "embedded")); err != nil {
			fmt.Fprintln(os.Stderr, "embedcases:", err)
			os.Exit(1)
		}
	}
}

// write cuts a case and compresses it.
func (p part) write(from, to string) error {
	f, err := weights.Open(filepath.Join(from, p.file+".safetensors"))
	if err != nil {
		return err
	}
	defer f.Close()
	metadata, dropped, err := p.metadata(f.Metadata())
	if err != nil {
		return fmt.Errorf("%s: %w", p.file, err)
	}
	var tensors []weights.Tensor
	for _, name := range f.Names() {
		stem, rest, _ := strings.Cut(name, ".")
		if t, _ := f.Tensor(name); !dropped[stem] && (p.tensors == nil || slices.Contains(p.tensors, rest)) {
			tensors = append(tensors, t)
		}
	}
	dir, err := os.MkdirTemp("", "embedcases")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cut := filepath.Join(dir, "cut.safetensors")
	if err := weights.WriteFile(cut, tensors, metadata); err != nil {
		return err
	}
	data, err := os.ReadFile(cut)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(data); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, p.file+".safetensors.gz"), out.Bytes(), 0o666)
}

// metadata keeps the wanted entries of the list "cases" and returns the names of the others.
func (p part) metadata(all map[string]string) (kept map[string]string, dropped map[string]bool, err error) {
	if p.cases == nil {
		return all, nil, nil
	}
	var list, keep []json.RawMessage
	if err := json.Unmarshal([]byte(all["cases"]), &list); err != nil {
		return nil, nil, fmt.Errorf("metadata cases: %w", err)
	}
	wanted := map[string]bool{}
	for _, name := range p.cases {
		wanted[name] = true
	}
	dropped = map[string]bool{}
	for _, entry := range list {
		name, err := caseName(entry)
		if err != nil {
			return nil, nil, err
		}
		if wanted[name] {
			keep = append(keep, entry)
		} else {
			dropped[name] = true
		}
	}
	if len(keep) != len(p.cases) {
		return nil, nil, fmt.Errorf("%d of the cases %v are there", len(keep), p.cases)
	}
	text, err := json.Marshal(keep)
	if err != nil {
		return nil, nil, err
	}
	kept = map[string]string{}
	for k, v := range all {
		kept[k] = v
	}
	kept["cases"] = string(text)
	return kept, dropped, nil
}

// caseName reads an entry of the list "cases": an object with a name, or a list that begins with it.
func caseName(entry json.RawMessage) (string, error) {
	var object struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(entry, &object) == nil {
		return object.Name, nil
	}
	var list []any
	if err := json.Unmarshal(entry, &list); err != nil {
		return "", fmt.Errorf("metadata cases: %w", err)
	}
	if len(list) > 0 {
		if name, ok := list[0].(string); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("metadata cases: %s has no name", entry)
}
