package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Result is the judgement of one output of a case.
type Result struct {
	Case      string  `json:"case"`
	Component string  `json:"component"`
	Output    string  `json:"output"`
	Metric    string  `json:"metric"` // "relative error", "differing share", "differing", "mean difference"
	Value     float64 `json:"value"`
	Limit     float64 `json:"limit"`
	Pass      bool    `json:"pass"`
}

// MarshalJSON writes numbers that JSON cannot hold (NaN, infinities) as −1.
func (r Result) MarshalJSON() ([]byte, error) {
	type plain Result
	if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		r.Value = -1
	}
	return json.Marshal(plain(r))
}

// Options say how cases are run.
type Options struct {
	Precision load.Precision
	// Linear says in which numbers transformers' linear layers are computed; their limits follow, and other cases have no
	// results.
	Linear load.Linear
	// Attention says how transformers' self-attention is computed: AttentionSage by the limits of mixed precision, and no other cases then.
	Attention load.Attention
	// Tokenizers is the folder with the published vocabularies (qwen/, clip/), which the tokenizer case needs. "" means
	// a folder "tokenizers" beside the case's own folder.
	Tokenizers string
	// Swap, when set, is how the blocks of transformers are held; results must not depend on it.
	BlocksInMemory int
}

// limits by precision and component. The transformer's in Mixed are in its case files.
const (
	limitF32          = 1e-4
	limitVAE          = 5e-3
	limitCLIP         = 5e-3
	limitSamplerMixed = 1e-2 // of the whole trajectory; the reference recorded no bf16 error for it
	limitInt8         = 2e-2 // of the visual blocks and the velocity, with linear layers in 8-bit integers; see docs/numerics.md
	limitSamplerInt8  = 2e-2
	limitQwen         = 1e-2
	limitNabla        = 1e-3 // share of mask entries that may differ in f32
	limitRandn        = 5e-4 // share of bf16 noise values that may differ
	limitFrames       = 2    // mean difference of the 8-bit levels of whole clips
)

// File runs the case in a file and returns its results. An error means that the case could not be run at all.
func File(ctx context.Context, d *engine.Device, path string, o Options) ([]Result, error) {
	if strings.EqualFold(filepath.Ext(path), ".json") {
		if o.transformersOnly() {
			return nil, nil
		}
		if o.Tokenizers == "" {
			o.Tokenizers = filepath.Join(filepath.Dir(path), "..", "tokenizers")
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return tokenizers(filepath.Base(path), data, o.Tokenizers)
	}
	f, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	results, err := run(ctx, d, newCase(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), f), o)
	return results, errors.Join(err, f.Close())
}

// Bytes runs the case in a file's contents.
func Bytes(ctx context.Context, d *engine.Device, name string, data []byte, o Options) ([]Result, error) {
	f, err := weights.OpenBytes(name, data)
	if err != nil {
		return nil, err
	}
	results, err := run(ctx, d, newCase(strings.TrimSuffix(name, filepath.Ext(name)), f), o)
	return results, errors.Join(err, f.Close())
}

// transformersOnly tells whether the options change nothing but transformers.
func (o Options) transformersOnly() bool {
	return o.Linear != load.LinearFull || o.Attention != load.AttentionOwn
}

func run(ctx context.Context, d *engine.Device, c *testCase, o Options) ([]Result, error) {
	runners := map[string]func(context.Context, *engine.Device, *testCase, Options) error{
		"dit": runDiT, "sampler": runSampler, "vae": runVAE, "qwen": runQwen, "clip": runCLIP, "rng": runRandn, "resize": runResize,
		"tiny": runTiny,
	}
	runner := runners[c.component]
	if runner == nil {
		return nil, fmt.Errorf("%s: unknown component %q: this is no golden case", c.file.Path(), c.component)
	}
	if o.transformersOnly() && c.component != "dit" && c.component != "sampler" {
		return nil, nil
	}
	if err := runner(ctx, d, c, o); err != nil {
		return nil, fmt.Errorf("%s: %w", c.file.Path(), err)
	}
	if len(c.results) == 0 {
		return nil, fmt.Errorf("%s: the case has no output to compare", c.file.Path())
	}
	return c.results, nil
}

// testCase is an open case with the results so far.
type testCase struct {
	name, component string
	file            *weights.File
	results         []Result
}

func newCase(name string, f *weights.File) *testCase {
	return &testCase{name: name, component: f.Metadata()["component"], file: f}
}

// meta reads a JSON value of the metadata.
func (c *testCase) meta(key string, v any) error {
	text, ok := c.file.Metadata()[key]
	if !ok {
		return fmt.Errorf("the case has no %q in its metadata", key)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return fmt.Errorf("metadata %q: %w", key, err)
	}
	return nil
}

// tensor returns a tensor of the case.
func (c *testCase) tensor(name string) (weights.Tensor, error) {
	t, ok := c.file.Tensor(name)
	if !ok {
		return t, fmt.Errorf("the case has no tensor %q", name)
	}
	return t, nil
}

// has says whether the case holds a tensor.
func (c *testCase) has(name string) bool {
	_, ok := c.file.Tensor(name)
	return ok
}

// reader gives the case's parameters.
func (c *testCase) reader() (load.NF4Reader, error) { return c.readerFor(weights.AnyComponent) }

// readerFor gives the case's parameters under a network's own names.
func (c *testCase) readerFor(component weights.Component) (load.NF4Reader, error) {
	ckpt, err := weights.NewCheckpoint([]*weights.File{c.file}, weights.OpenOptions{Prefix: "weights.", Component: component})
	if err != nil {
		return nil, err
	}
	return load.FromCheckpoint(ckpt), nil
}

// upload brings a float tensor of the case to the device as F32.
func (c *testCase) upload(ctx context.Context, d *engine.Device, name string) (engine.Tensor, error) {
	t, err := c.tensor(name)
	if err != nil {
		return engine.Tensor{}, err
	}
	out, err := d.Alloc(name, engine.F32, t.Shape...)
	if err != nil {
		return out, err
	}
	if err := d.UploadF32(ctx, out, t.Float32s()); err != nil {
		d.Free(out)
		return engine.Tensor{}, err
	}
	return out, nil
}

// compare judges numbers against a tensor of the case by relative error.
func (c *testCase) compare(output, reference string, got []float32, limit float64) error {
	t, err := c.tensor(reference)
	if err != nil {
		return err
	}
	want := t.Float32s()
	if len(want) != len(got) {
		return fmt.Errorf("%s has %d values, the reference %d", output, len(got), len(want))
	}
	c.add(output, "relative error", RelativeError(got, want), limit)
	return nil
}

func (c *testCase) add(output, metric string, value, limit float64) {
	c.results = append(c.results, Result{Case: c.name, Component: c.component, Output: output, Metric: metric, Value: value, Limit: limit,
		Pass: value <= limit}) // false for NaN
}

// RelativeError returns ‖got − want‖₂ / ‖want‖₂, NaN when a value is not finite.
func RelativeError(got, want []float32) float64 {
	var diff, norm float64
	for k, w := range want {
		g := float64(got[k])
		if math.IsNaN(g) || math.IsInf(g, 0) {
			return math.NaN()
		}
		diff += (g - float64(w)) * (g - float64(w))
		norm += float64(w) * float64(w)
	}
	if norm == 0 {
		return math.Sqrt(diff)
	}
	return math.Sqrt(diff / norm)
}
