package weights

import (
	"archive/zip"
	"bytes"
	"fmt"
)

// SynthLayout returns what Synth writes, but for the tensors, in memory: the layout's networks have configurations and no
// path, its tokenizers lie in Layout.Files.
func SynthLayout(o SynthOptions) (Layout, error) {
	if err := o.Validate(); err != nil {
		return Layout{}, err
	}
	tokenizers, err := synthTokenizers(o)
	if err != nil {
		return Layout{}, fmt.Errorf("weights: synth: %w", err)
	}
	files, err := inMemory(smallFiles(o, tokenizers))
	if err != nil {
		return Layout{}, fmt.Errorf("weights: synth: %w", err)
	}
	return LayoutIn(files)
}

// inMemory makes a file system of files.
func inMemory(files []jsonFile) (*zip.Reader, error) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for _, f := range files {
		data, err := f.text()
		if err != nil {
			return nil, err
		}
		to, err := w.Create(f.path)
		if err != nil {
			return nil, err
		}
		if _, err := to.Write(data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
}
