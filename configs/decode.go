package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Published widths of the two text encoders, used when a file leaves them out as upstream allows
// (kandinsky-5, kandinsky/models/dit.py).
const (
	defaultTextDim   = 3584
	defaultPooledDim = 768
)

// decode reads a configuration from yaml text. name is the base name that chooses the pipeline.
func decode(file, name string, data []byte) (*Config, error) {
	r := &report{file: file, lines: map[string]int{}}
	root, err := parse(file, data)
	if err != nil {
		return nil, err
	}
	c := &Config{Name: name, File: file, Pipeline: PipelineOf(name)}
	if err := refuseImageModels(file, name, root); err != nil {
		return nil, err
	}
	top := newSection(r, "", root)
	readMetrics(top.section("metrics", true), &c.Metrics)
	readModel(top.section("model", true), &c.Model)
	if top.has("magcache") {
		s := top.section("magcache", false)
		c.MagRatios = s.floats("mag_ratios", true, -1)
		s.close()
	} else {
		top.asked = append(top.asked, "magcache")
	}
	swap := top.section("block_swap", false)
	swap.bool("enabled", false, &c.BlockSwap.Enabled)
	swap.int("blocks_in_memory", false, &c.BlockSwap.BlocksInMemory)
	swap.close()
	top.close()
	if err := r.err(); err != nil {
		return nil, err
	}
	check(r, c)
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// parse returns the top node of a file that must hold exactly one yaml document.
func parse(file string, data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &Error{File: file, Msg: "the file is empty"}
		}
		return nil, syntaxError(file, err)
	}
	if err := dec.Decode(&second); err == nil {
		return nil, &Error{File: file, Line: second.Line, Msg: "the file holds more than one yaml document"}
	} else if !errors.Is(err, io.EOF) {
		return nil, syntaxError(file, err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, &Error{File: file, Line: 1, Msg: "the file is empty"}
	}
	return doc.Content[0], nil
}

// syntaxError moves the line number out of the parser's text ("yaml: line 3: …") into the error.
func syntaxError(file string, err error) error {
	text := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = yamlLine.ReplaceAllString(text, "")
	}
	return &Error{File: file, Line: line, Msg: fmt.Sprintf("not valid yaml: %s", bytes.TrimPrefix([]byte(text), []byte("yaml: ")))}
}

// refuseImageModels looks for the signs of an image model before anything else is checked, so that the user reads
// the reason and not a detail that follows from it.
func refuseImageModels(file, name string, root *yaml.Node) error {
	r := &report{file: file, lines: map[string]int{}}
	model := newSection(r, "", root).section("model", false)
	var vae, instruct string
	model.section("vae", false).string("name", false, &vae)
	model.section("dit_params", false).string("instruct_type", false, &instruct)
	const remedy = "only video models (hunyuan VAE, t2v and i2v) are supported"
	switch {
	case vae == "flux":
		return &Error{File: file, Line: r.lines["model.vae.name"], Key: "model.vae.name", Msg: "flux is the VAE of the image models; " + remedy}
	case instruct != "":
		return &Error{File: file, Line: r.lines["model.dit_params.instruct_type"], Key: "model.dit_params.instruct_type", Msg: "image editing; " + remedy}
	case PipelineOf(name) == "":
		return &Error{File: file, Msg: "the file's name says t2i or i2i, an image model; " + remedy}
	}
	return nil
}

func readMetrics(s *section, m *Metrics) {
	s.int("resolution", true, &m.Resolution)
	copy(m.ScaleFactor[:], s.floats("scale_factor", true, 3))
	s.float("scheduler_scale", false, &m.SchedulerScale)
	s.int("video_duration", false, &m.VideoDuration)
	s.close()
}

func readModel(s *section, m *Model) {
	s.string("checkpoint_path", true, &m.CheckpointPath)
	s.int("num_steps", true, &m.NumSteps)
	s.float("guidance_weight", true, &m.GuidanceWeight)
	expand := true
	s.bool("expand_prompt", false, &expand)
	m.KeepPrompt = !expand
	readDiT(s.section("dit_params", true), &m.DiT)
	if s.has("attention") {
		readAttention(s.section("attention", false), &m.Attention)
	} else {
		s.asked = append(s.asked, "attention")
	}
	vae := s.section("vae", true)
	vae.string("name", true, &m.VAE.Name)
	vae.string("checkpoint_path", true, &m.VAE.CheckpointPath)
	vae.close()
	text := s.section("text_embedder", true)
	readEmbedder(text.section("qwen", true), "processor_path", &m.Qwen)
	readEmbedder(text.section("clip", true), "tokenizer_path", &m.CLIP)
	text.close()
	s.close()
}

func readDiT(s *section, d *DiTParams) {
	d.InTextDim, d.InTextDim2 = defaultTextDim, defaultPooledDim
	s.int("in_visual_dim", true, &d.InVisualDim)
	s.int("out_visual_dim", true, &d.OutVisualDim)
	s.int("in_text_dim", false, &d.InTextDim)
	s.int("in_text_dim2", false, &d.InTextDim2)
	s.int("time_dim", true, &d.TimeDim)
	s.ints3("patch_size", true, &d.PatchSize)
	s.int("model_dim", true, &d.ModelDim)
	s.int("ff_dim", true, &d.FFDim)
	s.int("num_text_blocks", true, &d.NumTextBlocks)
	s.int("num_visual_blocks", true, &d.NumVisualBlocks)
	s.ints3("axes_dims", true, &d.AxesDims)
	s.bool("visual_cond", false, &d.VisualCond)
	s.string("attention_engine", false, &d.AttentionEngine)
	var instruct string
	s.string("instruct_type", false, &instruct)
	s.close()
}

func readAttention(s *section, a *Attention) {
	var kind string
	s.string("type", true, &kind)
	a.Nabla = kind == "nabla"
	s.float("P", a.Nabla, &a.P)
	s.int("wT", a.Nabla, &a.WT)
	s.int("wH", a.Nabla, &a.WH)
	s.int("wW", a.Nabla, &a.WW)
	readUnusedAttention(s)
	s.close()
}

// readUnusedAttention accepts what the files carry and upstream passes along without ever consulting it.
func readUnusedAttention(s *section) {
	var flag bool
	for _, key := range []string{"chunk", "causal", "local", "glob", "add_sta"} {
		s.bool(key, false, &flag)
	}
	var window int
	s.int("window", false, &window)
	var method string
	s.string("method", false, &method)
}

func readEmbedder(s *section, tokenizerKey string, t *TextEmbedder) {
	s.string("checkpoint_path", true, &t.CheckpointPath)
	t.TokenizerPath = t.CheckpointPath
	s.string(tokenizerKey, false, &t.TokenizerPath)
	s.int("max_length", true, &t.MaxLength)
	var width int // never read upstream: in_text_dim and in_text_dim2 decide
	s.int("emb_size", false, &width)
	s.close()
}
