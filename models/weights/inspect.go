package weights

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Inspection is what a model's folder, a network's folder or a single file holds, and what is wrong with it.
type Inspection struct {
	Path       string                `json:"path"`
	Kind       LayoutKind            `json:"kind"`
	Components []ComponentInspection `json:"components"`

	QwenTokenizer string `json:"qwen_tokenizer,omitempty"`
	CLIPTokenizer string `json:"clip_tokenizer,omitempty"`
	Scheduler     string `json:"scheduler,omitempty"`

	// Problems are the lines that keep the model from running, in order; empty for a sound one.
	Problems []string `json:"problems"`
}

// OK reports whether nothing was found wrong.
func (i Inspection) OK() bool { return len(i.Problems) == 0 }

// FileInfo is one file of a network.
type FileInfo struct {
	Path    string `json:"path"`
	Bytes   int64  `json:"bytes"`
	Tensors int    `json:"tensors"`
}

// ComponentInspection is one network. The embedded Report lists missing, unexpected and wrong tensors.
type ComponentInspection struct {
	Component  Component       `json:"component"`
	Path       string          `json:"path"`
	Files      []FileInfo      `json:"files,omitempty"`
	Tensors    int             `json:"tensors"`
	Parameters int64           `json:"parameters"`
	Bytes      int64           `json:"bytes"`
	ByDType    map[DType]int64 `json:"bytes_by_dtype,omitempty"`
	Config     any             `json:"config,omitempty"`      // DiTConfig, VAEConfig, QwenConfig or CLIPConfig
	ConfigFrom string          `json:"config_from,omitempty"` // a file, or "inferred" from the shapes
	Ignored    []string        `json:"ignored,omitempty"`     // tensors of parts the pipeline does not use
	Report     Report          `json:"report"`
	Error      string          `json:"error,omitempty"` // why the network cannot be loaded, one line
}

// InspectOptions says how deep to look. The zero value reads headers only.
type InspectOptions struct {
	// Values also reads every weight and reports NaN and infinities.
	Values bool
}

// Inspect looks at a model's folder, a network's folder or a single safetensors file, reading headers only. Faults of
// the model are in the result; an error means that the path holds nothing that could be inspected.
func Inspect(path string) (Inspection, error) {
	return InspectWith(context.Background(), path, InspectOptions{})
}

// InspectWith is Inspect with options. When the context ends it returns the context's error.
func InspectWith(ctx context.Context, path string, opt InspectOptions) (Inspection, error) {
	result := Inspection{Path: path, Problems: []string{}}
	if _, err := os.Stat(path); err != nil {
		return result, fmt.Errorf("weights: inspect: %w", err)
	}
	layout, err := inspectable(path)
	if err != nil {
		return result, err
	}
	result.Kind, result.Scheduler = layout.Kind, layout.Scheduler
	result.QwenTokenizer, result.CLIPTokenizer = layout.QwenTokenizer, layout.CLIPTokenizer
	for _, c := range Components() {
		part := layout.Part(c)
		if part.Path == "" {
			continue
		}
		found, err := inspectComponent(ctx, c, part, opt)
		if err != nil {
			return result, err
		}
		result.Components = append(result.Components, found)
		if found.Error != "" {
			result.Problems = append(result.Problems, found.Error)
		}
	}
	if layout.Kind != SingleComponent {
		if err := layout.Require(Components()...); err != nil {
			result.Problems = append(result.Problems, err.Error())
		}
	}
	return result, nil
}

// inspectable decides whether the path is a whole model or one network.
func inspectable(path string) (Layout, error) {
	if isDir(path) {
		layout, err := FindLayout(path)
		whole := layout.Kind == DiffusersLayout || layout.VAE.Path != "" || layout.Qwen.Path != "" || layout.CLIP.Path != ""
		if err != nil && whole {
			return layout, err
		}
		if whole || layout.DiT.Path != "" && filepath.Dir(layout.DiT.Path) != filepath.Clean(path) {
			return layout, nil
		}
	}
	component, err := guessComponent(path)
	if err != nil {
		return Layout{}, err
	}
	layout := Layout{Kind: SingleComponent, Root: path}
	part := anyPart(path)
	switch component {
	case DiT:
		layout.DiT = part
	case VAE:
		layout.VAE = part
	case Qwen:
		layout.Qwen, layout.QwenTokenizer = part, tokenizerPlace(path, path)
	case CLIP:
		layout.CLIP, layout.CLIPTokenizer = part, tokenizerPlace(path, path)
	}
	return layout, nil
}

// inspectComponent fills in one network. Its own faults go to Error.
func inspectComponent(ctx context.Context, c Component, part Part, opt InspectOptions) (ComponentInspection, error) {
	out := ComponentInspection{Component: c, Path: part.Path, ByDType: map[DType]int64{}}
	ckpt, err := part.Open(c)
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	defer ckpt.Close()
	for _, f := range ckpt.Files() {
		out.Files = append(out.Files, FileInfo{f.Path(), f.Size(), len(f.Names())})
	}
	for _, name := range ckpt.Names() {
		t, _ := ckpt.Tensor(name)
		out.Parameters += int64(t.Elements())
		out.ByDType[t.DType] += t.Bytes()
	}
	out.Tensors, out.Bytes, out.Ignored = len(ckpt.Names()), ckpt.Bytes(), ckpt.Ignored()
	var spec Spec
	spec, out.Config, out.ConfigFrom, err = specFor(c, part, ckpt)
	if err != nil {
		out.Error = err.Error()
		return out, nil
	}
	out.Report = Check(ckpt, spec)
	out.Parameters += ckpt.hidden(out.Report.NF4)
	err = out.Report.Err()
	if err == nil && opt.Values {
		err = ckpt.CheckFinite(ctx)
	}
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if err != nil {
		out.Error = err.Error()
	}
	return out, nil
}

// specFor loads a network's configuration and lists the tensors it calls for.
func specFor(c Component, part Part, ckpt *Checkpoint) (spec Spec, config any, from string, err error) {
	switch c {
	case DiT:
		cfg, from, err := LoadDiTConfig(part, ckpt)
		return specUnless(err, func() Spec { return DiTSpec(cfg) }), cfg, from, err
	case VAE:
		cfg, from, err := LoadVAEConfig(part, ckpt)
		return specUnless(err, func() Spec { return VAESpecOf(ckpt, cfg) }), cfg, from, err
	case Qwen:
		cfg, from, err := LoadQwenConfig(part, ckpt)
		if ckpt.textOnly() {
			return specUnless(err, func() Spec { return QwenTextSpec(cfg) }), cfg, from, err
		}
		return specUnless(err, func() Spec { return QwenSpec(cfg) }), cfg, from, err
	default:
		cfg, from, err := LoadCLIPConfig(part, ckpt)
		return specUnless(err, func() Spec { return CLIPSpec(cfg) }), cfg, from, err
	}
}

// textOnly says whether a Qwen checkpoint holds no more than encoding a prompt needs, as GGUF files do.
func (c *Checkpoint) textOnly() bool {
	_, head := c.tensors["lm_head.weight"]
	return !head && !slices.ContainsFunc(c.names, func(name string) bool { return strings.HasPrefix(name, "visual.") })
}

// specUnless keeps an unvalidated configuration from being turned into a list of absurd length.
func specUnless(err error, spec func() Spec) Spec {
	if err != nil {
		return nil
	}
	return spec()
}
