package weights

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// SynthOptions says what Synth writes. The configurations must fit together: see Validate.
type SynthOptions struct {
	DiT  DiTConfig
	VAE  VAEConfig
	Qwen QwenConfig
	CLIP CLIPConfig

	DType DType  // F32, F16 or BF16 for every tensor; the zero value means BF16
	Seed  uint64 // the same seed and configuration give the same files
	// MaxShardBytes cuts each network into files of at most so many bytes of data (one tensor may exceed it), with an
	// index, as large models are published. 0 writes one file per network.
	MaxShardBytes int64
	// Progress, if set, is called now and then, from Synth's goroutine, with the bytes of tensor data written and to
	// be written.
	Progress func(done, total int64)
}

// SmallSynth is a model small enough for a software driver, with every part of the real one: the networks of the
// golden cases in size, image-to-video conditioning, and text encoders whose vocabularies hold all bytes.
func SmallSynth() SynthOptions {
	dit := liteDiT()
	dit.InTextDim, dit.InTextDim2, dit.TimeDim, dit.ModelDim, dit.FFDim = 128, 64, 64, 128, 256
	dit.NumTextBlocks, dit.NumVisualBlocks = 2, 6
	vae := HunyuanVAE()
	vae.BlockOutChannels, vae.LayersPerBlock, vae.NormNumGroups = []int{16, 32, 32, 32}, 1, 8
	qwen := Qwen7B()
	t, v := &qwen.Text, &qwen.Vision
	t.HiddenSize, t.IntermediateSize, t.NumHiddenLayers, t.NumAttentionHeads, t.NumKeyValueHeads = 128, 192, 3, 4, 2
	t.VocabSize, t.MaxPositionEmbeddings, t.RopeScaling.MRopeSection = 512, 4096, [3]int{4, 6, 6}
	v.Depth, v.HiddenSize, v.IntermediateSize, v.NumHeads, v.OutHiddenSize = 4, 64, 96, 4, 128
	v.WindowSize, v.FullAttBlockIndexes = 56, []int{1, 3}
	const base = 490 // id of <|endoftext|>; the others follow in the published order
	qwen.BOSTokenID, qwen.EOSTokenID, qwen.VisionStartTokenID, qwen.VisionEndTokenID = base, base+2, base+9, base+10
	qwen.ImageTokenID, qwen.VideoTokenID = base+12, base+13
	clip := CLIPViTL14()
	clip.HiddenSize, clip.IntermediateSize, clip.NumHiddenLayers, clip.NumAttentionHeads, clip.VocabSize = 64, 128, 3, 2, 600
	return SynthOptions{DiT: dit, VAE: vae, Qwen: qwen, CLIP: clip}
}

// Validate refuses configurations that are impossible or do not fit together.
func (o SynthOptions) Validate() error {
	if err := firstError(o.DiT.Validate(), o.VAE.Validate(), o.Qwen.Validate(), o.CLIP.Validate()); err != nil {
		return err
	}
	var err error
	switch {
	case o.DType != Invalid && !o.DType.IsWeight():
		err = fmt.Errorf("element type %s: want F32, F16 or BF16", o.DType)
	case o.MaxShardBytes < 0:
		err = fmt.Errorf("shards of %d bytes", o.MaxShardBytes)
	case o.DiT.InTextDim != o.Qwen.Text.HiddenSize:
		err = fmt.Errorf("the transformer's in_text_dim %d differs from Qwen's hidden_size %d", o.DiT.InTextDim, o.Qwen.Text.HiddenSize)
	case o.DiT.InTextDim2 != o.CLIP.HiddenSize:
		err = fmt.Errorf("the transformer's in_text_dim2 %d differs from CLIP's hidden_size %d", o.DiT.InTextDim2, o.CLIP.HiddenSize)
	case o.DiT.InVisualDim != o.VAE.LatentChannels || o.DiT.OutVisualDim != o.VAE.LatentChannels:
		err = fmt.Errorf("the transformer's in_visual_dim %d and out_visual_dim %d differ from the autoencoder's latent_channels %d",
			o.DiT.InVisualDim, o.DiT.OutVisualDim, o.VAE.LatentChannels)
	}
	if err != nil {
		return fmt.Errorf("weights: synth: %w", err)
	}
	return nil
}

// synthPart is one network of a synthetic model.
type synthPart struct {
	component Component
	dir, stem string // folder and file name stem, as published
	spec      Spec
	config    any
}

func (o SynthOptions) parts() []synthPart {
	return []synthPart{
		{DiT, "transformer", "diffusion_pytorch_model", DiTSpec(o.DiT), ditFile(o.DiT)},
		{VAE, "vae", "diffusion_pytorch_model", VAESpec(o.VAE), vaeFile(o.VAE)},
		{Qwen, "text_encoder", "model", QwenSpec(o.Qwen), o.Qwen},
		{CLIP, "text_encoder_2", "model", CLIPSpec(o.CLIP), clipFile(o.CLIP)},
	}
}

// Synth writes a model of random weights into dir in the Diffusers arrangement, with small tokenizers in the
// published file formats. Linear layers are N(0, 1/in), norms 1, biases small, so that a forward pass stays finite
// at any depth; the autoencoder's kernels are smooth, so that a decoded video shows shapes instead of grain.
//
// The data is generated and written piece by piece: memory does not grow with the model. dir must not exist or be
// empty; it appears, whole, only when everything has been written, and nothing is left when Synth fails or its
// context ends.
func Synth(ctx context.Context, dir string, opt SynthOptions) (err error) {
	if err := opt.Validate(); err != nil {
		return err
	}
	if opt.DType == Invalid {
		opt.DType = BF16
	}
	tokenizers, err := synthTokenizers(opt)
	if err != nil {
		return fmt.Errorf("weights: synth: %w", err)
	}
	dir = filepath.Clean(dir)
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("weights: synth: folder %s is not empty: give a new one", dir)
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("weights: synth: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("weights: synth: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*.tmp")
	if err != nil {
		return fmt.Errorf("weights: synth: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	s := synth{ctx: ctx, root: tmp, opt: opt}
	if err := s.write(tokenizers); err != nil {
		return fmt.Errorf("weights: synth: %w", err)
	}
	if err := errors.Join(os.Chmod(tmp, 0o755), removeEmpty(dir), os.Rename(tmp, dir)); err != nil {
		return fmt.Errorf("weights: synth: %w", err)
	}
	return nil
}

// removeEmpty makes room for the rename when the target is an existing empty folder.
func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// synth is one run of Synth.
type synth struct {
	ctx         context.Context
	root        string
	opt         SynthOptions
	done, total int64
}

func (s *synth) write(tokenizers []jsonFile) error {
	parts := s.opt.parts()
	for _, p := range parts {
		s.total += p.spec.Parameters() * int64(s.opt.DType.Size())
	}
	for _, f := range smallFiles(s.opt, tokenizers) {
		if err := f.write(s.root); err != nil {
			return err
		}
	}
	for _, p := range parts {
		if err := s.network(p); err != nil {
			return err
		}
	}
	return nil
}

// smallFiles are all files of the model but those of tensors.
func smallFiles(o SynthOptions, tokenizers []jsonFile) []jsonFile {
	files := append(synthFiles(o), tokenizers...)
	for _, p := range o.parts() {
		files = append(files, jsonFile{p.dir + "/config.json", p.config})
	}
	return files
}

// network writes the shards of one network, and their index when there are several.
func (s *synth) network(p synthPart) error {
	shards := cutShards(p.spec, int64(s.opt.DType.Size()), s.opt.MaxShardBytes)
	weightMap := map[string]string{}
	for i, shard := range shards {
		name := p.stem + fileSuffix
		if len(shards) > 1 {
			name = fmt.Sprintf("%s-%05d-of-%05d%s", p.stem, i+1, len(shards), fileSuffix)
		}
		for _, e := range shard {
			weightMap[e.Name] = name
		}
		if err := s.shard(filepath.Join(s.root, p.dir, name), p.component, shard); err != nil {
			return err
		}
	}
	if len(shards) == 1 {
		return nil
	}
	index := map[string]any{
		"metadata":   map[string]any{"total_size": p.spec.Parameters() * int64(s.opt.DType.Size())},
		"weight_map": weightMap,
	}
	return jsonFile{p.dir + "/" + p.stem + indexSuffix, index}.write(s.root)
}

func (s *synth) shard(path string, c Component, shard Spec) error {
	infos := make([]TensorInfo, len(shard))
	for i, e := range shard {
		infos[i] = TensorInfo{e.Name, s.opt.DType, e.Shape}
	}
	w, err := Create(path, infos, map[string]string{"format": "pt"})
	if err != nil {
		return err
	}
	for _, info := range w.Order() {
		if err := s.tensor(w, c, info); err != nil {
			return errors.Join(err, w.Abort())
		}
	}
	return w.Close()
}

// tensor generates one tensor in blocks and writes each before the next.
func (s *synth) tensor(w io.Writer, c Component, info TensorInfo) error {
	fill := initialiser(c, info, s.opt.Seed)
	elements := info.Bytes() / int64(info.DType.Size())
	buffer := make([]byte, min(info.Bytes(), synthBlockBytes))
	for at := int64(0); at < elements; {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		n := min(elements-at, int64(len(buffer)/info.DType.Size()))
		block := buffer[:n*int64(info.DType.Size())]
		fillParallel(block, info.DType, at, fill)
		if _, err := w.Write(block); err != nil {
			return err
		}
		at += n
		s.done += int64(len(block))
		if s.opt.Progress != nil {
			s.opt.Progress(s.done, s.total)
		}
	}
	return nil
}

// cutShards groups tensors, in order, into shards of at most limit bytes; 0 means one shard.
func cutShards(spec Spec, size, limit int64) []Spec {
	if limit == 0 {
		return []Spec{spec}
	}
	var shards []Spec
	var current Spec
	var held int64
	for _, e := range spec {
		n := e.Elements() * size
		if len(current) > 0 && held+n > limit {
			shards, current, held = append(shards, current), nil, 0
		}
		current, held = append(current, e), held+n
	}
	return append(shards, current)
}

// jsonFile is a file to be written below the model's root: text as it is, anything else as JSON.
type jsonFile struct {
	path  string // with forward slashes
	value any
}

func (f jsonFile) write(root string) error {
	path := filepath.Join(root, filepath.FromSlash(f.path))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	data, err := f.text()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

func (f jsonFile) text() ([]byte, error) {
	if data, isText := f.value.([]byte); isText {
		return data, nil
	}
	data, err := json.MarshalIndent(f.value, "", "  ")
	return append(data, '\n'), err
}
