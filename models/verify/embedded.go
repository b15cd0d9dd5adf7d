package verify

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"strings"
)

// Golden cases cut from the full set by tools/embedcases.
//
//go:embed embedded/*.safetensors.gz
var embeddedFiles embed.FS

// EmbeddedCase is a golden case inside the program.
type EmbeddedCase struct {
	Name string // such as "vae.safetensors"
	Data []byte // for Bytes
}

// Embedded returns the cases that need no file: at least one for every component but the tokenizers, whose published
// vocabularies are larger than all of these together.
func Embedded() ([]EmbeddedCase, error) {
	entries, err := embeddedFiles.ReadDir("embedded")
	if err != nil {
		return nil, err
	}
	var out []EmbeddedCase
	for _, e := range entries {
		packed, err := embeddedFiles.ReadFile("embedded/" + e.Name())
		if err != nil {
			return nil, err
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			return nil, fmt.Errorf("embedded case %s: %w", e.Name(), err)
		}
		data, err := io.ReadAll(z)
		if err != nil {
			return nil, fmt.Errorf("embedded case %s: %w", e.Name(), err)
		}
		out = append(out, EmbeddedCase{Name: strings.TrimSuffix(e.Name(), ".gz"), Data: data})
	}
	return out, nil
}
