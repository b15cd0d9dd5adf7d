package qwen

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/models/weights/nf4test"
	"github.com/vkandinsky/vkandinsky/swap"
)

// isLinear tells which tensors bitsandbytes holds in 4 bits.
func isLinear(name string) bool {
	return strings.HasSuffix(name, "_proj.weight") || strings.HasSuffix(name, "attn.qkv.weight") || strings.HasSuffix(name, "attn.proj.weight") ||
		strings.Contains(name, "merger.mlp.") && strings.HasSuffix(name, ".weight")
}

// stored is the golden case's model in a file, as it is and with some matrices in 4 bits.
func (g *goldenCase) stored(t *testing.T, quantized func(name string) bool) load.Reader {
	t.Helper()
	dir := t.TempDir()
	var list []weights.Tensor
	for _, name := range g.ckpt.Names() {
		x, _ := g.ckpt.Tensor(name)
		list = append(list, x)
	}
	from, to := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.safetensors")
	if err := weights.WriteFile(from, list, nil); err != nil {
		t.Fatal(err)
	}
	nf4test.Write(t, from, to, nf4test.Options{Quantized: quantized})
	c, err := weights.OpenComponent(to, weights.Qwen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := weights.Check(c, weights.QwenSpec(g.config)).Err(); err != nil {
		t.Fatal(err)
	}
	return load.FromCheckpoint(c)
}

// TestAModelIn4BitsHasTheBitsOfWhatItStandsFor compares text, picture and continuation of the model quantized while loading,
// of one stored in 4 bits, of one stored so in part, and of the same numbers in bf16.
func TestAModelIn4BitsHasTheBitsOfWhatItStandsFor(t *testing.T) {
	g := openGolden(t)
	d := enginetest.OpenPlain(t)
	want := g.results(t, d, load.Through4Bits(g.reader.(load.NF4Reader), isLinear), Options{})
	ways := map[string]struct {
		reader load.Reader
		opts   Options
	}{
		"quantized while loading":         {g.reader, Options{Quantize: true}},
		"kept, streamed from pinned":      {load.Keep4Bits(g.reader.(load.NF4Reader)), Options{Quantize: true, LayersInMemory: 1, Tier: swap.Pinned}},
		"stored in 4 bits, streamed":      {g.stored(t, isLinear), Options{LayersInMemory: 2}},
		"some stored, the rest quantized": {g.stored(t, func(name string) bool { return isLinear(name) && !strings.Contains(name, ".1.") }), Options{Quantize: true}},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) { sameResults(t, g.results(t, d, way.reader, way.opts), want) })
	}
	t.Run("some stored, the rest in bf16", func(t *testing.T) {
		some := func(name string) bool { return isLinear(name) && !strings.Contains(name, ".1.") }
		reader := g.stored(t, some)
		m := g.openReader(t, d, reader, Options{})
		x, err := m.Hidden(t.Context(), g.ints(t, "in.input_ids"), nil)
		if err != nil {
			t.Fatal(err)
		}
		within(t, "text", take(t, d, x), g.floats(t, "f32.last_hidden_state_unmasked"), 0.5)
	})
}

func (g *goldenCase) openReader(t *testing.T, d *engine.Device, r load.Reader, o Options) *Model {
	t.Helper()
	m, err := New(t.Context(), d, r, g.config, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

type results struct {
	text, picture []float32
	ids           []int32
}

func (g *goldenCase) results(t *testing.T, d *engine.Device, r load.Reader, o Options) (out results) {
	t.Helper()
	m, err := New(t.Context(), d, r, g.config, o)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := g.text(t)
	for k, prompt := range []Prompt{{IDs: p.IDs}, g.picture(t)} {
		x, err := m.Encode(t.Context(), []Prompt{prompt})
		if err != nil {
			t.Fatal(err)
		}
		*[]*[]float32{&out.text, &out.picture}[k] = take(t, d, x[0])
	}
	if out.ids, err = m.Generate(t.Context(), g.picture(t), GenerateOptions{Max: 4}); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	return out
}

func sameResults(t *testing.T, got, want results) {
	t.Helper()
	if !slices.Equal(got.text, want.text) || !slices.Equal(got.picture, want.picture) || !slices.Equal(got.ids, want.ids) {
		t.Errorf("text equal: %v, picture equal: %v, continuation %v, want %v", slices.Equal(got.text, want.text), slices.Equal(got.picture, want.picture), got.ids, want.ids)
	}
}

func TestThePlanOfAModelIn4BitsIsWhatItTakes(t *testing.T) {
	config, reader := largeLayers()
	config.Text.NumHiddenLayers = 3
	for _, layers := range []int{1, 3} {
		opts := Options{Quantize: true, LayersInMemory: layers, Room: Work{Tokens: []int{4}}}
		d := enginetest.OpenPlainWith(t, engine.Options{Limits: engine.TestLimits{Chunk: enginetest.ChunkOfUsers}})
		d.Mem.ResetPeak()
		m, err := New(t.Context(), d, reader, config, opts)
		if err != nil {
			t.Fatal(err)
		}
		x, err := m.Hidden(t.Context(), make([]int32, 4), nil)
		if err != nil {
			t.Fatal(err)
		}
		take(t, d, x)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		items, _, err := Plan(config, reader, opts, 0, m.half)
		if err != nil {
			t.Fatal(err)
		}
		var planned int64
		for _, i := range items {
			planned += i.Bytes
		}
		if peak := d.Mem.Peak(memory.Device); peak != planned {
			t.Errorf("%d layers: the peak is %d, planned are %d", layers, peak, planned)
		}
		var plain int64
		opts.Quantize = false
		items, _, _ = Plan(config, reader, opts, 0, m.half)
		for _, i := range items {
			plain += i.Bytes
		}
		if planned >= plain {
			t.Errorf("%d layers: %d bytes in 4 bits, %d in 16", layers, planned, plain)
		}
	}
}

// counting counts what is quantized.
type counting struct {
	load.NF4Reader
	reads atomic.Int64
}

func (c *counting) ReadNF4(ctx context.Context, name string, shape []int, l nf4.Layout, dst []byte) error {
	c.reads.Add(1)
	return c.NF4Reader.ReadNF4(ctx, name, shape, l, dst)
}

func TestMatricesAreQuantizedOnce(t *testing.T) {
	g := openGolden(t)
	d := enginetest.OpenPlain(t)
	under := &counting{NF4Reader: g.reader.(load.NF4Reader)}
	kept := load.Keep4Bits(under)
	for pass := range 2 {
		m := g.openReader(t, d, kept, Options{Quantize: true, LayersInMemory: 1})
		if _, err := m.Generate(t.Context(), Prompt{IDs: g.ints(t, "in.input_ids")}, GenerateOptions{Max: 3}); err != nil {
			t.Fatal(err)
		}
		if n := under.reads.Load(); n != int64(7*g.config.Text.NumHiddenLayers) {
			t.Errorf("pass %d: %d matrices were read", pass, n)
		}
	}
	if kept.Bytes() == 0 {
		t.Error("nothing is kept")
	}
	kept.Forget()
	if n := kept.Bytes(); n != 0 {
		t.Errorf("%d bytes are kept after all", n)
	}
}

func TestA4BitMatrixLargerThanABindingIsRefused(t *testing.T) {
	config, reader := largeLayers()
	d := enginetest.OpenPlainWith(t, engine.Options{Limits: engine.TestLimits{MaxStorageRange: 1 << 20}})
	_, err := New(t.Context(), d, reader, config, Options{Quantize: true})
	if err == nil || !strings.Contains(err.Error(), "without quantization") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", fmt.Sprint(err))
	}
}
