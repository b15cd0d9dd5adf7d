package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// LayoutIn is FindLayout for a model in the Diffusers arrangement that does not lie on disk, such as files embedded in
// the program: each network is one safetensors file with its config.json beside it. Its parts are read whole into memory
// when they are opened. Absent parts are not errors: Require tells.
func LayoutIn(files fs.FS) (Layout, error) {
	l := Layout{Kind: DiffusersLayout, Root: ".", files: files}
	for _, part := range []struct {
		dir  string
		into *Part
	}{{"transformer", &l.DiT}, {"vae", &l.VAE}, {"text_encoder", &l.Qwen}, {"text_encoder_2", &l.CLIP}} {
		var err error
		if *part.into, err = partIn(files, part.dir); err != nil {
			return Layout{}, err
		}
	}
	l.QwenTokenizer, l.CLIPTokenizer = existingIn(files, "tokenizer"), existingIn(files, "tokenizer_2")
	l.Generation = existingIn(files, "text_encoder/generation_config.json")
	l.Scheduler = existingIn(files, "scheduler/scheduler_config.json")
	return l, nil
}

// partIn is the network in a folder of a file system.
func partIn(files fs.FS, dir string) (Part, error) {
	found, err := fs.Glob(files, path.Join(dir, "*"+fileSuffix))
	switch {
	case err != nil:
		return Part{}, fmt.Errorf("weights: find model: %w", err)
	case len(found) > 1:
		return Part{}, fmt.Errorf("weights: %s: several %s files", dir, fileSuffix)
	case len(found) == 0:
		return Part{}, nil
	}
	return Part{Path: found[0], Config: existingIn(files, path.Join(dir, "config.json")), files: files}, nil
}

func existingIn(files fs.FS, name string) string {
	if _, err := fs.Stat(files, name); err != nil {
		return ""
	}
	return name
}

// Files is the file system that the layout's paths lie in; nil means the system's own.
func (l Layout) Files() fs.FS { return l.files }

// Open opens the network's tensors under their canonical names, wherever they lie.
func (p Part) Open(c Component) (*Checkpoint, error) {
	if p.files == nil {
		return OpenComponent(p.Path, c)
	}
	data, err := fs.ReadFile(p.files, p.Path)
	if err != nil {
		return nil, fmt.Errorf("weights: open checkpoint: %w", err)
	}
	file, err := OpenBytes(p.Path, data)
	if err != nil {
		return nil, err
	}
	ckpt, err := newCheckpoint(p.Path, []*File{file}, nil, OpenOptions{Component: c})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	ckpt.owned = true
	return ckpt, nil
}

// readConfig reads the network's config.json.
func (p Part) readConfig() ([]byte, error) {
	if p.files == nil {
		return readBounded(p.Config, maxJSON)
	}
	return fs.ReadFile(p.files, p.Config)
}
