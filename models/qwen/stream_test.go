package qwen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// TestStreamingChangesNoBit compares the hidden states of two prompts, taken through the layers together, with those
// of each prompt on its own with all layers resident.
func TestStreamingChangesNoBit(t *testing.T) {
	g := openGolden(t)
	text, _ := g.text(t)
	prompts := [][]int32{text.IDs, text.IDs[3:20]}
	d := enginetest.OpenPlain(t)
	want := g.separately(t, d, prompts)
	for _, tier := range []swap.HostTier{swap.Pinned, swap.Mapped} {
		for layers := 1; layers <= 4; layers++ {
			t.Run(fmt.Sprintf("%d layers in memory, the others %s", layers, tier), func(t *testing.T) {
				g.streams(t, d, prompts, want, Options{LayersInMemory: layers, Tier: tier})
			})
		}
	}
	t.Run("on a device with one queue", func(t *testing.T) {
		single := enginetest.OpenPlainWith(t, engine.Options{Limits: engine.TestLimits{SingleQueue: true}})
		g.streams(t, single, prompts, want, Options{LayersInMemory: 2})
	})
}

func (g *goldenCase) separately(t *testing.T, d *engine.Device, prompts [][]int32) (out [][]float32) {
	t.Helper()
	m, err := New(t.Context(), d, g.reader, g.config, Options{LayersInMemory: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, ids := range prompts {
		x, err := m.Hidden(t.Context(), ids, nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, take(t, d, x))
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// streams takes the prompts through the layers twice, so that the second pass begins with what the first left.
func (g *goldenCase) streams(t *testing.T, d *engine.Device, prompts [][]int32, want [][]float32, o Options) {
	t.Helper()
	m, err := New(t.Context(), d, g.reader, g.config, o)
	if err != nil {
		t.Fatal(err)
	}
	for pass := range 2 {
		states, err := m.HiddenBatch(t.Context(), prompts)
		if err != nil {
			t.Fatal(err)
		}
		for k, x := range states {
			if !slices.Equal(take(t, d, x), want[k]) {
				t.Errorf("prompt %d differs in pass %d", k, pass)
			}
		}
	}
	c, plan := m.Counters()
	if streamed := 3 - min(o.LayersInMemory, 3); c.Accesses != 6 || plan.Slots != min(o.LayersInMemory, 3) || streamed > 0 && c.Hits == c.Accesses {
		t.Errorf("%+v with plan %v", c, plan)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestABudgetDecidesHowManyLayersStay(t *testing.T) {
	// What is there already, a chunk of small regions, and the rest for layers of 24 MiB.
	const used, budget = 64 << 20, 64<<20 + 64<<20 + 130<<20
	config, reader := largeLayers()
	opts := Options{Room: Work{Tokens: []int{20}}}
	d := enginetest.OpenPlainWith(t, engine.Options{DeviceBudget: budget})
	m, err := New(t.Context(), d, reader, config, opts)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, layers, err := Plan(config, reader, opts, budget-used, m.half)
	if err != nil {
		t.Fatal(err)
	}
	if _, plan := m.Counters(); plan.Slots != layers || layers != 5 {
		t.Errorf("%d layers are on the device, the plan says %d, 5 fit", plan.Slots, layers)
	}
	x, err := m.Hidden(t.Context(), make([]int32, 20), nil)
	if err != nil {
		t.Fatal(err)
	}
	take(t, d, x)
}

func TestABudgetTooSmallIsRefused(t *testing.T) {
	config, reader := largeLayers()
	d := enginetest.OpenPlainWith(t, engine.Options{DeviceBudget: 70 << 20})
	if _, err := New(t.Context(), d, reader, config, Options{}); !errors.Is(err, memory.ErrBudget) {
		t.Errorf("got %v", err)
	}
}

func TestWorkTooLargeForTheBudgetIsRefused(t *testing.T) {
	config, reader := largeLayers()
	d := enginetest.OpenPlainWith(t, engine.Options{DeviceBudget: 64<<20 + 64<<20})
	m, err := New(t.Context(), d, reader, config, Options{LayersInMemory: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	used := d.Mem.Used(memory.Device)
	ids := make([]int32, 2000)
	_, hidden := m.Hidden(t.Context(), ids, nil)
	_, generated := m.Generate(t.Context(), Prompt{IDs: ids}, GenerateOptions{Max: 1})
	_, picture := m.ImageEmbeds(t.Context(), Image{Rows: 128, Cols: 128, Patches: make([]float32, 128*128*patchElements(config.Vision))})
	for name, err := range map[string]error{"hidden state": hidden, "continuation": generated, "picture": picture} {
		if !errors.Is(err, memory.ErrBudget) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if now := d.Mem.Used(memory.Device); now != used {
		t.Errorf("%d bytes are in use, %d before", now, used)
	}
	x, err := m.Hidden(t.Context(), ids[:5], nil) // the model is as good as before
	if err != nil {
		t.Fatal(err)
	}
	take(t, d, x)
}

func TestAnInterruptedPassEndsCleanly(t *testing.T) {
	g := openGolden(t)
	text, _ := g.text(t)
	d := enginetest.OpenPlainWith(t, engine.Options{Limits: engine.TestLimits{SingleQueue: true}})
	m, err := New(t.Context(), d, g.reader, g.config, Options{LayersInMemory: 1})
	if err != nil {
		t.Fatal(err)
	}
	second := endedWhen{t.Context(), func() bool { return m.swap.Counters().Accesses == 2 }}
	if _, err := m.Hidden(second, text.IDs, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled at the second layer: got %v", err)
	}
	if _, err := m.Hidden(t.Context(), text.IDs, nil); err == nil || !strings.Contains(err.Error(), "open the model again") {
		t.Errorf("the next pass: got %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// endedWhen is a context that has ended when something is so.
type endedWhen struct {
	context.Context
	so func() bool
}

func (c endedWhen) Err() error {
	if c.so() {
		return context.Canceled
	}
	return c.Context.Err()
}

// TestEveryFailureIsReported lets the driver fail at places spread over a whole run.
func TestEveryFailureIsReported(t *testing.T) {
	g := openGolden(t)
	clean := &engine.Faults{}
	if err := g.wholeRun(t, clean); err != nil {
		t.Fatal(err)
	}
	submits, allocations := clean.Submits(), clean.Allocations()
	t.Logf("%d submits, %d allocations", submits, allocations)
	for k := range int64(4) {
		at := 1 + k*(submits-1)/3
		t.Run(fmt.Sprintf("device lost at submit %d", at), func(t *testing.T) {
			if err := g.wholeRun(t, &engine.Faults{SubmitAt: at}); err == nil {
				t.Error("no error")
			}
		})
	}
	for at := int64(1); at <= allocations; at += max(1, allocations/4) {
		t.Run(fmt.Sprintf("out of memory at allocation %d", at), func(t *testing.T) {
			// The allocator may get along with a smaller piece; then the run must be right.
			if err := g.wholeRun(t, &engine.Faults{AllocateAt: at}); err != nil {
				t.Log(err)
			}
		})
	}
}

// wholeRun opens device and model, continues a prompt with a picture and closes both. A leak is an error.
func (g *goldenCase) wholeRun(t *testing.T, f *engine.Faults) (err error) {
	t.Helper()
	d, err := engine.Open(t.Context(), engine.Options{Faults: f})
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := d.Close(); closeErr != nil && strings.Contains(closeErr.Error(), "leak") {
			t.Error(closeErr)
		}
	}()
	m, err := New(t.Context(), d, g.reader, g.config, Options{Precision: load.Float32, LayersInMemory: 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	ids, err := m.Generate(t.Context(), g.picture(t), GenerateOptions{Max: 2})
	if err == nil && !slices.Equal(ids, g.ints(t, "f32.generated_ids")[:2]) {
		t.Errorf("continued with %v", ids)
	}
	return err
}

// TestAContinuedTextStreams continues a text with every number of layers on the device, in 16 and in 4 bits: the ids are the
// same, and every id brings each streamed layer to the device once.
func TestAContinuedTextStreams(t *testing.T) {
	const ids = 4 // the prompt's pass gives the first
	g := openGolden(t)
	d := enginetest.OpenPlain(t)
	for _, quantize := range []bool{false, true} {
		var want []int32
		for layers := 3; layers >= 1; layers-- {
			t.Run(fmt.Sprintf("%d layers in memory, quantized %v", layers, quantize), func(t *testing.T) {
				m := g.open(t, d, Options{LayersInMemory: layers, Quantize: quantize})
				got, err := m.Generate(t.Context(), g.picture(t), GenerateOptions{Max: ids})
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				}
				if !slices.Equal(got, want) {
					t.Errorf("ids %v, with all layers on the device %v", got, want)
				}
				c, plan := m.Counters()
				streamed := len(plan.Streamed)
				if streamed == 0 != (layers == 3) || c.Accesses != ids*3 || c.Hits != int64(ids*(3-streamed)) {
					t.Errorf("%+v with plan %v", c, plan)
				}
				// The next layers are read and copied ahead, as many as there are slots and staging buffers.
				if least := int64(ids * streamed); streamed > 0 && (c.Loads < least || c.Loads > least+int64(plan.Stream)) {
					t.Errorf("%d layers were copied, %d used", c.Loads, least)
				}
			})
		}
	}
}

// readEvents tells which layers are read.
type readEvents struct {
	load.Reader
	layers chan int
}

func (r readEvents) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	var layer int
	if _, err := fmt.Sscanf(name, "model.layers.%d.input_layernorm.weight", &layer); err == nil && strings.HasSuffix(name, "input_layernorm.weight") {
		r.layers <- layer
	}
	return r.Reader.Read(ctx, name, shape, to, dst)
}

// TestLayersAreReadAheadOfTheirUse opens a model of which one layer is on the device and computes nothing: the first layers
// are read all the same, into the staging buffers.
func TestLayersAreReadAheadOfTheirUse(t *testing.T) {
	g := openGolden(t)
	r := readEvents{g.reader, make(chan int, 100)}
	m, err := New(t.Context(), enginetest.OpenPlain(t), r, g.config, Options{LayersInMemory: 1})
	if err != nil {
		t.Fatal(err)
	}
	for want := range 2 {
		if got := <-r.layers; got != want {
			t.Errorf("layer %d was read, want %d", got, want)
		}
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
