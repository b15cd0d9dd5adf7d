package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// LayoutKind says how the parts of a model are arranged on disk.
type LayoutKind string

// The arrangements in which models are published, and single networks.
const (
	DiffusersLayout LayoutKind = "diffusers" // transformer/, vae/, text_encoder/, text_encoder_2/, tokenizer/, ...
	UpstreamLayout  LayoutKind = "upstream"  // one transformer file, vae/, text_encoder/, text_encoder2/
	SingleComponent LayoutKind = "component" // one network alone
)

// Part is where one network lies. The zero value means it was not found.
type Part struct {
	Path   string `json:"path,omitempty"`   // for Open: a file or a folder
	Config string `json:"config,omitempty"` // its config.json, empty when there is none

	files fs.FS // that the paths lie in; nil: the system's
}

// Layout is where the parts of a model lie. Parts that were not found are empty: Require tells which.
type Layout struct {
	Kind LayoutKind `json:"kind"`
	Root string     `json:"root"`
	DiT  Part       `json:"dit"`
	VAE  Part       `json:"vae"`
	Qwen Part       `json:"qwen"`
	CLIP Part       `json:"clip"`

	QwenTokenizer string `json:"qwen_tokenizer,omitempty"` // folder with vocab.json and merges.txt, or tokenizer.json; or a GGUF file that holds them
	CLIPTokenizer string `json:"clip_tokenizer,omitempty"`
	Generation    string `json:"generation,omitempty"` // Qwen's generation_config.json
	Scheduler     string `json:"scheduler,omitempty"`  // scheduler_config.json

	files fs.FS // that the paths lie in; nil: the system's
}

// Part returns where a network lies.
func (l Layout) Part(c Component) Part {
	switch c {
	case DiT:
		return l.DiT
	case VAE:
		return l.VAE
	case Qwen:
		return l.Qwen
	case CLIP:
		return l.CLIP
	}
	return Part{}
}

// ImageProcessor returns the path of preprocessor_config.json, which lies beside the tokenizer or the text encoder; empty
// when there is none.
func (l Layout) ImageProcessor() string {
	const name = "preprocessor_config.json"
	dir := l.Qwen.Path
	if isFile(dir) {
		dir = filepath.Dir(dir)
	}
	for _, folder := range []string{l.QwenTokenizer, dir} {
		if folder != "" && isFile(filepath.Join(folder, name)) {
			return filepath.Join(folder, name)
		}
	}
	return ""
}

// Require returns one error that lists which of the given networks, or of the tokenizers that go with them, were
// not found.
func (l Layout) Require(components ...Component) error {
	var absent []string
	for _, c := range components {
		if l.Part(c).Path == "" {
			absent = append(absent, fmt.Sprintf("%s (%s)", c, usualPlace(c)))
		}
		if c == Qwen && l.QwenTokenizer == "" {
			absent = append(absent, "qwen tokenizer (tokenizer/ or text_encoder/ with vocab.json and merges.txt)")
		}
		if c == CLIP && l.CLIPTokenizer == "" {
			absent = append(absent, "clip tokenizer (tokenizer_2/ or text_encoder2/ with vocab.json and merges.txt)")
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return fmt.Errorf("weights: %s: not found: %s", l.Root, strings.Join(absent, ", "))
}

func usualPlace(c Component) string {
	switch c {
	case DiT:
		return "transformer/ or model/*.safetensors"
	case VAE:
		return "vae/"
	case Qwen:
		return "text_encoder/"
	}
	return "text_encoder_2/ or text_encoder2/"
}

// FindLayout looks at a model's folder: the Diffusers arrangement when it has model_index.json or transformer/, else
// upstream's, with the transformer as the only safetensors file of the folder or of its model/. It opens no
// checkpoint. More than one candidate for the transformer is an error that names them; absent parts are not errors.
func FindLayout(dir string) (Layout, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Layout{}, fmt.Errorf("weights: find model: %w", err)
	}
	if !info.IsDir() {
		return Layout{}, fmt.Errorf("weights: find model: %s is not a folder", dir)
	}
	l := Layout{Kind: UpstreamLayout, Root: dir}
	if isFile(filepath.Join(dir, "model_index.json")) || isDir(filepath.Join(dir, "transformer")) {
		l.Kind = DiffusersLayout
		l.DiT = folderPart(filepath.Join(dir, "transformer"))
	} else if l.DiT.Path, err = upstreamDiT(dir); err != nil {
		return l, err
	}
	l.VAE = folderPart(filepath.Join(dir, "vae"))
	l.Qwen = folderPart(filepath.Join(dir, "text_encoder"))
	clip := firstDir(filepath.Join(dir, "text_encoder_2"), filepath.Join(dir, "text_encoder2"))
	l.CLIP = folderPart(clip)
	l.QwenTokenizer = tokenizerPlace(l.Qwen.Path, filepath.Join(dir, "tokenizer"), l.Qwen.Path)
	l.CLIPTokenizer = tokenizerPlace(clip, filepath.Join(dir, "tokenizer_2"), filepath.Join(dir, "tokenizer2"), clip)
	l.Generation = existing(filepath.Join(dir, "text_encoder", "generation_config.json"))
	l.Scheduler = existing(filepath.Join(dir, "scheduler", "scheduler_config.json"))
	return l, nil
}

// Paths names the parts of a model one by one, as upstream's yaml files do (model.checkpoint_path,
// model.vae.checkpoint_path, ...). The tokenizer folders are optional: without them the encoders' own are taken.
type Paths struct {
	DiT, VAE, Qwen, CLIP         string
	QwenTokenizer, CLIPTokenizer string
}

// LayoutOf makes a Layout of named paths. Each non-empty path must exist.
func LayoutOf(p Paths) (Layout, error) {
	var errs []error
	for _, path := range []string{p.DiT, p.VAE, p.Qwen, p.CLIP, p.QwenTokenizer, p.CLIPTokenizer} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return Layout{}, fmt.Errorf("weights: find model: %w (give the model's folder, or correct the checkpoint_path)", errs[0])
	}
	l := Layout{
		Kind: UpstreamLayout, Root: filepath.Dir(p.DiT),
		DiT: anyPart(p.DiT), VAE: anyPart(p.VAE), Qwen: anyPart(p.Qwen), CLIP: anyPart(p.CLIP),
	}
	l.QwenTokenizer = tokenizerPlace(p.Qwen, p.QwenTokenizer, p.Qwen)
	l.CLIPTokenizer = tokenizerPlace(p.CLIP, p.CLIPTokenizer, p.CLIP)
	if l.Qwen.Path != "" {
		l.Generation = existing(filepath.Join(p.Qwen, "generation_config.json"))
	}
	return l, nil
}

// upstreamDiT finds the transformer's single file; an empty path means there is none.
func upstreamDiT(dir string) (string, error) {
	for _, folder := range []string{dir, filepath.Join(dir, "model")} {
		single, indexes, err := listFolder(folder)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("weights: %w", err)
		}
		switch {
		case len(indexes) == 1:
			return indexes[0], nil
		case len(single) == 1:
			return single[0], nil
		case len(single) > 1:
			return "", fmt.Errorf("weights: %s: several transformers (%s): name the one to use", folder, baseNames(single))
		}
	}
	return "", nil
}

// folderPart is a network's folder, if it holds a checkpoint.
func folderPart(dir string) Part {
	if dir == "" {
		return Part{}
	}
	single, indexes, err := listFolder(dir)
	if err != nil || len(single)+len(indexes) == 0 {
		return Part{}
	}
	return Part{Path: dir, Config: existing(filepath.Join(dir, "config.json"))}
}

// anyPart is a network given by file or folder. A file's configuration is looked for beside it.
func anyPart(path string) Part {
	if path == "" {
		return Part{}
	}
	dir := path
	if !isDir(path) {
		dir = filepath.Dir(path)
	}
	return Part{Path: path, Config: existing(filepath.Join(dir, "config.json"))}
}

// tokenizerPlace is tokenizerFolder, or the network's own file where that is GGUF and holds the tokenizer.
func tokenizerPlace(network string, dirs ...string) string {
	if dir := tokenizerFolder(dirs...); dir != "" {
		return dir
	}
	return ggufWithTokenizer(network)
}

// tokenizerFolder is the first folder that holds tokenizer files.
func tokenizerFolder(dirs ...string) string {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		pair := isFile(filepath.Join(dir, "vocab.json")) && isFile(filepath.Join(dir, "merges.txt"))
		if pair || isFile(filepath.Join(dir, "tokenizer.json")) {
			return dir
		}
	}
	return ""
}

func firstDir(dirs ...string) string {
	for _, dir := range dirs {
		if isDir(dir) {
			return dir
		}
	}
	return ""
}

func existing(path string) string {
	if isFile(path) {
		return path
	}
	return ""
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
