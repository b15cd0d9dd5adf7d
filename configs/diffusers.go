package configs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"gopkg.in/yaml.v3"
)

// Sampling settings a Diffusers folder does not hold: those of the published SD files.
const (
	diffusersSteps      = 50
	diffusersGuidance   = 5.0
	diffusersResolution = 512
)

// FromDiffusers makes a Config of a Diffusers folder's transformer/config.json. file is the path of that json (or
// of the folder's copy of it): it appears in errors, its grandparent folder becomes Dir, and that folder's name
// chooses the pipeline. The json holds the transformer only; the rest is what the published SD files say (resolution
// 512, 50 steps, guidance 5), and the checkpoint paths are those of the Diffusers layout.
//
// The published Pro folders say nabla attention with P 0.8 for SD too, where upstream's yaml says full attention;
// what the json says is kept.
func FromDiffusers(file string, data []byte) (*Config, error) {
	dit, attention, err := splitFlat(file, data)
	if err != nil {
		return nil, err
	}
	root := filepath.Dir(filepath.Dir(file))
	name := filepath.Base(root)
	c := &Config{Name: name, File: file, Dir: root, Pipeline: PipelineOf(name)}
	if c.Pipeline == "" {
		return nil, &Error{File: file, Msg: "the folder's name says t2i or i2i, an image model; only video models are supported"}
	}
	r := &report{file: file, lines: map[string]int{}}
	c.Metrics = Metrics{Resolution: diffusersResolution, ScaleFactor: [3]float64{1, 2, 2}}
	m := &c.Model
	m.CheckpointPath, m.NumSteps, m.GuidanceWeight = "transformer/diffusion_pytorch_model.safetensors", diffusersSteps, diffusersGuidance
	m.VAE = VAE{Name: "hunyuan", CheckpointPath: "vae"}
	m.Qwen = TextEmbedder{CheckpointPath: "text_encoder", TokenizerPath: "tokenizer", MaxLength: 256}
	m.CLIP = TextEmbedder{CheckpointPath: "text_encoder_2", TokenizerPath: "tokenizer_2", MaxLength: 77}
	m.KeepPrompt = takeKeepPrompt(r, dit)
	readDiT(newSection(r, "model.dit_params", dit), &m.DiT)
	if s := newSection(r, "model.attention", attention); s.has("type") { // without it Diffusers attends in full
		readAttention(s, &m.Attention)
	}
	if r.err() == nil {
		check(r, c)
	}
	if err := r.err(); err != nil {
		return nil, flatKey(err)
	}
	return c, nil
}

// takeKeepPrompt takes expand_prompt out of the transformer's keys. Published folders do not have it; models that this
// program makes up say false.
func takeKeepPrompt(r *report, dit *yaml.Node) bool {
	const key = "expand_prompt"
	for i := 0; i+1 < len(dit.Content); i += 2 {
		if dit.Content[i].Value == key {
			expand := true
			s := newSection(r, "model.dit_params", &yaml.Node{Kind: yaml.MappingNode, Content: dit.Content[i : i+2 : i+2]})
			s.bool(key, false, &expand)
			dit.Content = append(dit.Content[:i:i], dit.Content[i+2:]...)
			return !expand
		}
	}
	return false
}

// ParseDiTParams reads the transformer's shape alone from a json object with the names of the yaml's dit_params
// section, as reference cases carry it. file appears in errors.
func ParseDiTParams(file string, data []byte) (DiTParams, error) {
	dit, attention, err := splitFlat(file, data)
	if err != nil {
		return DiTParams{}, err
	}
	if len(attention.Content) > 0 {
		return DiTParams{}, &Error{File: file, Line: attention.Content[0].Line, Msg: "attention settings do not belong to the transformer's shape"}
	}
	r := &report{file: file, lines: map[string]int{}}
	var d DiTParams
	readDiT(newSection(r, "dit_params", dit), &d)
	if r.err() == nil {
		checkDiT(r, "dit_params.", &d)
	}
	return d, r.err()
}

// flatKey gives an error the name its key has in the flat json.
func flatKey(err error) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	flat := *e
	flat.Key = strings.TrimPrefix(flat.Key, "model.dit_params.")
	if rest, ok := strings.CutPrefix(flat.Key, "model.attention."); ok {
		flat.Key = "attention_" + rest
		flat.Msg = strings.Replace(flat.Msg, "did you mean ", "did you mean attention_", 1)
	}
	return &flat
}

// splitFlat sorts the entries of a flat json object into the two sections of the yaml files. Names that begin with
// an underscore are Diffusers' own, and null means "not set" there.
func splitFlat(file string, data []byte) (dit, attention *yaml.Node, err error) {
	dit = &yaml.Node{Kind: yaml.MappingNode, Line: 1}
	attention = &yaml.Node{Kind: yaml.MappingNode, Line: 1}
	fail := func(offset int64, format string, args ...any) error {
		return &Error{File: file, Line: lineAt(data, offset), Msg: fmt.Sprintf(format, args...)}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, fail(0, "not a json object")
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, nil, fail(dec.InputOffset(), "not valid json: %v", err)
		}
		key, line := tok.(string), lineAt(data, dec.InputOffset())
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, nil, fail(dec.InputOffset(), "not valid json: %v", err)
		}
		if key == "_class_name" && string(raw) != `"Kandinsky5Transformer3DModel"` {
			return nil, nil, fail(dec.InputOffset(), "not the configuration of a Kandinsky 5 transformer: _class_name is %s", raw)
		}
		if strings.HasPrefix(key, "_") || string(raw) == "null" {
			continue
		}
		section := dit
		if rest, ok := strings.CutPrefix(key, "attention_"); ok && key != "attention_engine" {
			section, key = attention, rest
		}
		value, err := jsonNode(raw, line)
		if err != nil {
			return nil, nil, fail(dec.InputOffset(), "%s: %v", key, err)
		}
		section.Content = append(section.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key, Line: line}, value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, nil, fail(dec.InputOffset(), "not valid json: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fail(dec.InputOffset(), "something follows the json object")
	}
	return dit, attention, nil
}

// jsonNode turns a json scalar or list of scalars into the yaml node that the sections read.
func jsonNode(raw json.RawMessage, line int) (*yaml.Node, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return scalarNode(v, line, true)
}

func scalarNode(v any, line int, listAllowed bool) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Line: line}
	switch v := v.(type) {
	case string:
		n.Tag, n.Value = "!!str", v
	case bool:
		n.Tag, n.Value = "!!bool", fmt.Sprint(v)
	case json.Number:
		n.Tag, n.Value = "!!int", v.String()
		if strings.ContainsAny(v.String(), ".eE") {
			n.Tag = "!!float"
		}
	case []any:
		if !listAllowed {
			return nil, errors.New("lists in lists are not expected here")
		}
		n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
		for _, e := range v {
			child, err := scalarNode(e, line, false)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
	default:
		return nil, errors.New("must be a number, text, true or false, or a list of numbers")
	}
	return n, nil
}

func lineAt(data []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(data)))
	return 1 + bytes.Count(data[:offset], []byte{'\n'})
}
