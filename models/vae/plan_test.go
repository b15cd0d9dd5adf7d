package vae

import (
	"errors"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// TestNeedIsThePeak uses pictures large enough, and chunks small enough, that the activations have chunks of their own.
func TestNeedIsThePeak(t *testing.T) {
	const chunk = 2 << 20
	config := weights.HunyuanVAE()
	config.BlockOutChannels, config.LayersPerBlock, config.NormNumGroups = []int{8, 8, 16, 16}, 1, 4
	open := func(t *testing.T, p load.Precision) (*engine.Device, *VAE, Model) {
		dev := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{Chunk: chunk}})
		v, err := New(dev, load.Synthetic(weights.F16), config, p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(v.Close)
		m := Model{Config: config, Precision: p, Stored: weights.F16, Limits: LimitsOf(dev.Caps(), p)}
		m.Limits.Cut.Chunk = chunk
		return dev, v, m
	}
	check := func(t *testing.T, dev *engine.Device, need *load.Need, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var sum int64
		for _, i := range need.Items() {
			sum += i.Bytes
		}
		if sum != need.Bytes() || len(need.Items()) < 3 {
			t.Errorf("items %+v are %d bytes together, the need is %d", need.Items(), sum, need.Bytes())
		}
		if peak := dev.Mem.Peak(memory.Device); peak != need.Bytes() || peak <= chunk {
			t.Errorf("planned %d bytes, used %d: %+v", need.Bytes(), peak, need.Items())
		}
	}
	t.Run("decode, mixed", func(t *testing.T) {
		dev, v, m := open(t, load.Mixed)
		size := Size{1, 192, 256}
		latents := upload(t, dev, make([]float32, 24*32*16), 1, 24, 32, 16)
		dev.Mem.ResetPeak()
		if err := v.LoadDecoder(t.Context()); err != nil {
			t.Fatal(err)
		}
		frames := 0
		err := v.Decode(t.Context(), latents, DecodeOptions{}, func(f Frames) error {
			frames += f.Count
			if f.Width != size.Width || f.Height != size.Height || len(f.RGB) != size.Width*size.Height*3 {
				t.Errorf("%d bytes for %d×%d", len(f.RGB), f.Height, f.Width)
			}
			return nil
		})
		if err != nil || frames != 1 {
			t.Fatalf("%d frames: %v", frames, err)
		}
		need, err := m.DecodeNeed(size, Tiling{}, false)
		check(t, dev, need, err)
	})
	t.Run("encode, f32", func(t *testing.T) {
		dev, v, m := open(t, load.Float32)
		pixels := upload(t, dev, make([]float32, 160*160*3), 1, 160, 160, 3)
		dev.Mem.ResetPeak()
		if err := v.LoadEncoder(t.Context()); err != nil {
			t.Fatal(err)
		}
		post, err := v.Encode(t.Context(), pixels, EncodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		post.Free()
		need, err := m.EncodeNeed(Size{1, 160, 160}, Tiling{})
		check(t, dev, need, err)
	})
}

// wholeRun opens a device with faults and encodes and decodes a picture. All that is taken must be given back, else
// closing the device is an error.
func wholeRun(t *testing.T, g golden, f *engine.Faults) (err error) {
	t.Helper()
	ctx := t.Context()
	dev, err := engine.Open(ctx, engine.Options{Faults: f})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	v, err := New(dev, load.FromCheckpoint(g.ckpt), g.config, load.Mixed)
	if err != nil {
		return err
	}
	defer v.Close()
	run := func() error {
		values, shape := g.channelsLast(t, "enc_image.in")
		in, err := dev.Alloc("pixels", engine.F32, shape...)
		if err != nil {
			return err
		}
		defer dev.Free(in)
		y, err := dev.Alloc("latents", engine.F32, 1, 6, 8, 16)
		if err != nil {
			return err
		}
		defer dev.Free(y)
		if err := errors.Join(dev.UploadF32(ctx, in, values), v.LoadEncoder(ctx)); err != nil {
			return err
		}
		post, err := v.Encode(ctx, in, EncodeOptions{})
		if err != nil {
			return err
		}
		defer post.Free()
		v.FreeEncoder()
		post.Sample(dev.Compute(), y, engine.Tensor{}, 1)
		if err := v.LoadDecoder(ctx); err != nil {
			return err
		}
		return v.Decode(ctx, y, DecodeOptions{}, func(Frames) error { return nil })
	}
	return run()
}

func TestEveryFailureOfTheDeviceEndsCleanly(t *testing.T) {
	g := openGolden(t)
	clean := &engine.Faults{}
	if err := wholeRun(t, g, clean); err != nil {
		t.Fatal(err)
	}
	submits, allocations := clean.Submits(), clean.Allocations()
	if submits < 10 || allocations < 3 {
		t.Fatalf("%d submits and %d allocations: the run is too small to fail in", submits, allocations)
	}
	step := max(submits/8, 1) // from a lost device on everything fails alike, so some of them will do
	for at := int64(1); at <= submits; at += step {
		if err := wholeRun(t, g, &engine.Faults{SubmitAt: at}); err == nil {
			t.Errorf("device lost at submit %d of %d: no error", at, submits)
		}
	}
	for at := int64(1); at <= allocations; at++ {
		// Not always an error: a shared chunk is asked for again in a smaller size. But never a leak, which would be one.
		if err := wholeRun(t, g, &engine.Faults{AllocateAt: at}); err != nil && !strings.Contains(err.Error(), "vkAllocateMemory") {
			t.Errorf("allocation %d of %d: %v", at, allocations, err)
		}
	}
	dev := enginetest.OpenWith(t, engine.Options{DeviceBudget: 80 << 20})
	v := newGoldenVAE(t, g, dev, load.Float32)
	big, err := dev.Alloc("someone else's", engine.F32, 3<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Free(big)
	latents := upload(t, dev, make([]float32, 64*64*16), 1, 64, 64, 16)
	var full *memory.BudgetError
	err = v.Decode(t.Context(), latents, DecodeOptions{}, func(Frames) error { return nil })
	if !errors.As(err, &full) {
		t.Errorf("a decode past the budget: error %v", err)
	}
}

// Tiles in time after the second need nothing more: so plans need not walk through them all.
func TestLongClipsNeedWhatTheirTilesNeed(t *testing.T) {
	config := weights.HunyuanVAE()
	config.BlockOutChannels, config.LayersPerBlock, config.NormNumGroups = []int{8, 8, 16, 16}, 1, 4
	m := Model{Config: config, Stored: weights.F16, Limits: Limits{MaxAllocation: 1 << 32, MaxStorageRange: 1<<32 - 1, Half: true}}
	m.Limits.Cut.Chunk = 1 << 10
	for _, tiling := range []Tiling{Whole(), split(64, 96, 4), {Frames: 9, FrameStride: 4, Height: 64, Width: 64, HeightStep: 64, WidthStep: 64}} {
		for frames := 1; frames < 90; frames += 4 {
			size := Size{frames, 64, 96}
			want, err := m.decodeNeed(size, tiling, false)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := m.DecodeNeed(size, tiling, false); err != nil || got.Bytes() != want.Bytes() {
				t.Errorf("%d frames in %+v: planned %v, %v, walked through %d bytes", frames, tiling, got, err, want.Bytes())
			}
		}
	}
}
