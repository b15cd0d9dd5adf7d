package lora_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// adaptedModules are in every part of the transformer: outside the blocks, in a text block, and in some visual blocks, also
// in one that is not adapted like the others.
func adaptedModules() []string {
	return []string{
		"time_embeddings.in_layer", "out_layer.modulation.out_layer", "text_transformer_blocks.1.self_attention.to_value",
		"visual_transformer_blocks.0.self_attention.to_query", "visual_transformer_blocks.1.self_attention.to_query",
		"visual_transformer_blocks.3.self_attention.to_query", "visual_transformer_blocks.2.feed_forward.in_layer",
		"visual_transformer_blocks.2.feed_forward.out_layer", "visual_transformer_blocks.3.cross_attention.out_layer",
		"visual_transformer_blocks.3.visual_modulation.out_layer",
	}
}

// dyadic are numbers whose products and sums fp32 holds exactly: multiples of 1/16 up to 3/4.
func dyadic(r *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for k := range out {
		out[k] = float32(r.IntN(25)-12) / 16
	}
	return out
}

// factorsOf are A and B of modules.
type factorsOf map[string][2][]float32

// adapter writes an adapter of rank 4 and alpha 1, so of scale 1/4, and returns its factors.
func adapter(t *testing.T, spec weights.Spec, modules []string, seed uint64) (string, factorsOf) {
	t.Helper()
	const rank = 4
	r, factors := rand.New(rand.NewPCG(seed, 0)), factorsOf{}
	var tensors []weights.Tensor
	add := func(name string, values []float32, shape ...int) {
		tensor := weights.Tensor{Name: name, DType: weights.F32, Shape: shape, Data: make([]byte, 4*len(values))}
		numeric.BytesFromF32s(tensor.Data, values)
		tensors = append(tensors, tensor)
	}
	for _, module := range modules {
		shape := spec.Filter(func(name string) bool { return name == module+".weight" })[0].Shape
		a, b := dyadic(r, rank*shape[1]), dyadic(r, shape[0]*rank)
		factors[module] = [2][]float32{a, b}
		add("base_model.model."+module+".lora_A.weight", a, rank, shape[1])
		add("base_model.model."+module+".lora_B.weight", b, shape[0], rank)
		add("base_model.model."+module+".alpha", []float32{1}, 1)
	}
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := weights.WriteFile(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	return path, factors
}

// network is a small transformer of made-up weights, or a copy of it with weight/4·B·A added to its matrices beforehand: exact
// sums, added in fp32, rounded once.
func network(t *testing.T, spec weights.Spec, d weights.DType, weight float64, factors factorsOf) load.Reader {
	t.Helper()
	var tensors []weights.Tensor
	for _, e := range spec {
		tensor := weights.Tensor{Name: e.Name, DType: weights.F32, Shape: e.Shape, Data: make([]byte, 4*e.Elements())}
		if err := load.Synthetic(weights.F32).Read(t.Context(), e.Name, e.Shape, engine.F32, tensor.Data); err != nil {
			t.Fatal(err)
		}
		w := tensor.Float32s()
		if d == weights.BF16 {
			for k := range w {
				w[k] = numeric.RoundBF16(w[k])
			}
		}
		if pair, ok := factors[strings.TrimSuffix(e.Name, ".weight")]; ok && strings.HasSuffix(e.Name, ".weight") {
			in, rank := e.Shape[1], len(pair[0])/e.Shape[1]
			for k := range w {
				var sum float64
				for n := range rank {
					sum += float64(pair[1][k/in*rank+n]) * float64(pair[0][n*in+k%in])
				}
				w[k] += float32(weight / 4 * sum)
			}
		}
		tensor.DType, tensor.Data = d, make([]byte, len(w)*d.Size())
		if d == weights.F32 {
			numeric.BytesFromF32s(tensor.Data, w)
		} else {
			numeric.BF16FromF32s(tensor.Data, w)
		}
		tensors = append(tensors, tensor)
	}
	path := filepath.Join(t.TempDir(), "transformer.safetensors")
	if err := weights.WriteFile(path, tensors, nil); err != nil {
		t.Fatal(err)
	}
	c, err := weights.OpenComponent(path, weights.DiT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return load.FromCheckpoint(c)
}

func open(t *testing.T, spec weights.Spec, sources ...lora.Source) *lora.Set {
	t.Helper()
	set, err := lora.OpenSet(sources, spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.Close(); err != nil {
			t.Error(err)
		}
	})
	return set
}

func smallConfig() dit.Config {
	c := dit.Config{DiTConfig: weights.SmallSynth().DiT}
	c.NumVisualBlocks, c.NumTextBlocks = 4, 2
	return c
}

// TestMergedWhileLoadingIsMergedBefore compares what a transformer computes with adapters that are merged as it is read, or on
// the device, with what the same computes whose file was merged: bit for bit, however the blocks are held. Only where the
// device adds to what was rounded before, numbers differ: they must be as near to those of fp32 as the merged file's are.
func TestMergedWhileLoadingIsMergedBefore(t *testing.T) {
	d := enginetest.Open(t)
	config := smallConfig()
	spec := weights.DiTSpec(config.DiTConfig)
	path, factors := adapter(t, spec, adaptedModules(), 1)
	const weight = -0.5
	for _, c := range []struct {
		stored    weights.DType
		precision load.Precision
		linear    load.Linear
		host      load.HostWeights
		held      []dit.SwapOptions
	}{
		{weights.BF16, load.Mixed, load.LinearFull, load.FullWeights, []dit.SwapOptions{{}, {Slots: 1, Tier: swap.Mapped}, {Slots: 2, Tier: swap.Pinned}, {Slots: 3, Tier: swap.Mapped},
			{Adapters: dit.AdaptOnDevice}, {Slots: 2, Tier: swap.Pinned, Adapters: dit.AdaptOnDevice}, {Slots: 2, Tier: swap.Mapped, Adapters: dit.AdaptOnHost}}},
		{weights.F32, load.Mixed, load.LinearFull, load.FullWeights, []dit.SwapOptions{{Slots: 2, Tier: swap.Mapped}}},
		{weights.F32, load.Mixed, load.LinearInt8, load.FullWeights, []dit.SwapOptions{{}, {Slots: 2, Tier: swap.Pinned}}},
		{weights.F32, load.Mixed, load.LinearFull, load.Int8Weights, []dit.SwapOptions{{}, {Slots: 2, Tier: swap.Mapped}}},
		{weights.BF16, load.Mixed, load.LinearFull, load.CodedWeights, []dit.SwapOptions{{Slots: 2, Tier: swap.Pinned}, {Slots: 1, Tier: swap.Mixed, Pinned: 1}}},
		{weights.F32, load.Float32, load.LinearFull, load.FullWeights, []dit.SwapOptions{{}, {Slots: 1, Tier: swap.Pinned}, {Slots: 2, Tier: swap.Mapped}}},
	} {
		t.Run(fmt.Sprintf("%v %v %v %v", c.stored, c.precision, c.linear, c.host), func(t *testing.T) {
			options := dit.Options{Precision: c.precision, Linear: c.linear, Visual: dit.SwapOptions{Host: c.host}}
			base := network(t, spec, c.stored, 0, nil)
			plain := velocity(t, d, base, config, options)
			want := velocity(t, d, network(t, spec, c.stored, weight, factors), config, options)
			if slices.Equal(plain, want) {
				t.Fatal("the adapter changes nothing")
			}
			truth := velocity(t, d, network(t, spec, weights.F32, weight, factors), config, dit.Options{Precision: load.Float32})
			twice := open(t, spec, lora.Source{Path: path, Weight: 1.5 * weight}, lora.Source{Path: path, Weight: -0.5 * weight}).Reader(base)
			for _, o := range c.held {
				o.Host = c.host
				options.Visual = o
				got := velocity(t, d, twice, config, options)
				roundedBefore := o.Tier == swap.Mapped && c.precision == load.Mixed && (c.stored == weights.F32 || c.host == load.Int8Weights)
				if e, most := distance(got, truth), 1.25*distance(want, truth); roundedBefore && !(e <= most) || !roundedBefore && !slices.Equal(got, want) {
					t.Errorf("%d blocks, %s: not what the merged file gives: off by %g, allowed %g", o.Slots, o.Tier, e, most)
				}
			}
			none := open(t, spec, lora.Source{Path: path, Weight: 0}).Reader(base)
			options.Visual = dit.SwapOptions{Slots: 2, Host: c.host}
			if got := velocity(t, d, none, config, options); !slices.Equal(got, plain) {
				t.Error("an adapter of weight 0 changes something")
			}
		})
	}
}

// TestEveryTensorIsMergedAlike compares the tensors themselves.
func TestEveryTensorIsMergedAlike(t *testing.T) {
	spec := weights.DiTSpec(smallConfig().DiTConfig)
	path, factors := adapter(t, spec, adaptedModules(), 1)
	for stored, to := range map[weights.DType]engine.DType{weights.BF16: engine.BF16, weights.F32: engine.F32} {
		merged := network(t, spec, stored, 2, factors)
		adapted := open(t, spec, lora.Source{Path: path, Weight: 2}).Reader(network(t, spec, stored, 0, nil))
		for _, e := range spec {
			got, want := make([]byte, e.Elements()*to.Size()), make([]byte, e.Elements()*to.Size())
			if err := adapted.Read(t.Context(), e.Name, e.Shape, to, got); err != nil {
				t.Fatal(err)
			}
			if err := merged.Read(t.Context(), e.Name, e.Shape, to, want); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v: %s differs from the tensor that was merged before", stored, e.Name)
			}
			if len(e.Shape) != 2 {
				continue
			}
			row := int64(e.Shape[1]) * to.Size()
			from, count := e.Shape[0]/3, e.Shape[0]/2
			rows := got[:int64(count)*row]
			if err := load.ReadRows(t.Context(), adapted, e.Name, e.Shape, from, count, to, rows); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(rows, want[int64(from)*row:][:len(rows)]) {
				t.Errorf("%v: some rows of %s differ from those of the tensor that was merged before", stored, e.Name)
			}
		}
	}
}

// velocity computes two passes of a transformer with made-up inputs, so that streamed blocks come round again.
func velocity(t *testing.T, d *engine.Device, r load.Reader, config dit.Config, o dit.Options) []float32 {
	t.Helper()
	m, err := dit.New(t.Context(), d, r, config, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}()
	return evaluate(t, d, m)
}

func smallSize() dit.Size {
	return dit.Size{Frames: 2, Height: 8, Width: 8, RopeScale: [3]float32{1, 2, 2}}
}

func evaluate(t *testing.T, d *engine.Device, m *dit.Model) []float32 {
	t.Helper()
	a := d.NewArena("inputs")
	defer a.Release()
	size, config := smallSize(), m.Config
	text, latents := a.Alloc("text", engine.F32, 3, config.InTextDim), a.Alloc("latents", engine.F32, size.Frames, size.Height, size.Width, config.InVisualDim)
	if err := a.Err(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, x := range []engine.Tensor{text, latents} {
		values := make([]float32, x.Elems())
		for k := range values {
			values[k] = float32(rng.NormFloat64())
		}
		if err := d.UploadF32(t.Context(), x, values); err != nil {
			t.Fatal(err)
		}
	}
	times := []float32{900, 500}
	pass, err := m.NewPass(t.Context(), dit.PassOptions{Size: size, Times: times, Prompts: []dit.Prompt{{Text: text, Pooled: make([]float32, config.InTextDim2)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	var out []float32
	for _, time := range times {
		v, err := pass.Evaluate(t.Context(), dit.Input{Latents: latents, MaskFrames: 1, Time: time}, nil)
		if err != nil {
			t.Fatal(err)
		}
		values, err := d.DownloadF32(t.Context(), v[0])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, values...)
	}
	return out
}

// distance is ‖a − b‖ / ‖b‖.
func distance(a, b []float32) float64 {
	var diff, norm float64
	for k, v := range b {
		d := float64(a[k]) - float64(v)
		diff, norm = diff+d*d, norm+float64(v)*float64(v)
	}
	return math.Sqrt(diff / norm)
}

// TestAdaptersOnTheDeviceAreSwitched reloads a transformer with adapters of the same and of other ranks and matrices, and without
// any: each time it must compute what one that was made so computes.
func TestAdaptersOnTheDeviceAreSwitched(t *testing.T) {
	d := enginetest.Open(t)
	config := smallConfig()
	spec := weights.DiTSpec(config.DiTConfig)
	base := network(t, spec, weights.BF16, 0, nil)
	first, _ := adapter(t, spec, adaptedModules(), 1)
	alike, _ := adapter(t, spec, adaptedModules(), 2)
	other, _ := adapter(t, spec, adaptedModules()[2:5], 3)
	var sets []*lora.Set
	for _, paths := range [][]string{{first}, {alike}, {other}, {}, slices.Repeat([]string{first}, 9)} { // nine times rank 4 are more than 32
		var sources []lora.Source
		for _, path := range paths {
			sources = append(sources, lora.Source{Path: path, Weight: 1})
		}
		sets = append(sets, open(t, spec, sources...))
	}
	for _, held := range []dit.SwapOptions{{Slots: 2, Tier: swap.Mapped}, {Slots: 3, Tier: swap.Pinned, Adapters: dit.AdaptOnDevice, Host: load.Int8Weights},
		{Slots: 1, Tier: swap.Mixed, Pinned: 1, Host: load.CodedWeights}} {
		options := dit.Options{Precision: load.Mixed, Visual: held}
		m, err := dit.New(t.Context(), d, sets[0].Reader(base), config, options)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		for k, set := range sets {
			if k > 0 {
				if err := m.Reload(t.Context(), set.Reader(base), func(name string) bool { return set.Changes(name) || sets[k-1].Changes(name) }); err != nil {
					t.Fatal(err)
				}
			}
			needs, err := dit.Plan(dit.Request{Config: config, Reader: set.Reader(base), Options: options, Size: smallSize(), TextRows: 3, Branches: 1})
			if err != nil {
				t.Fatal(err)
			}
			if got := m.BlockBytes(); got != needs.BlockBytes {
				t.Errorf("set %d: blocks of %d bytes, planned %d", k, got, needs.BlockBytes)
			}
			if got, want := evaluate(t, d, m), velocity(t, d, set.Reader(base), config, options); !slices.Equal(got, want) {
				t.Errorf("set %d, %s: off by %g from what a new transformer computes", k, held.Tier, distance(got, want))
			}
		}
		before := evaluate(t, d, m)
		if err := m.Resize(t.Context(), 1, swap.Pinned, 0); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(evaluate(t, d, m), before) {
			t.Error("with other slots in another tier numbers differ")
		}
	}
}
