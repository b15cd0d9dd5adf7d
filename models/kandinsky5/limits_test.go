package kandinsky5

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Devices differ in what they allow at once. How work is cut into pieces must not change a bit of the result.
func TestSmallerDevicesGiveTheSamePicture(t *testing.T) {
	c := smallCheckpoint(t)
	o := Options{BlocksInMemory: 2, HostTier: swap.Mapped}
	want := generate(t, enginetest.OpenPlainWith(t, wholeDevice()), c, o, guidedRequest()).Clip.Pix
	d := enginetest.OpenPlainWith(t, engine.Options{Limits: smallerDevice(288 << 10)})
	if got := generate(t, d, c, o, guidedRequest()).Clip.Pix; !bytes.Equal(got, want) {
		t.Error("the picture differs from that of an unlimited device")
	}
}

// smallerDevice allows little at once, and has neither a second queue nor push descriptors. Tests choose the size of bindings
// so that the largest activations do not fit one.
func smallerDevice(storageRange int64) engine.TestLimits {
	return engine.TestLimits{MaxStorageRange: storageRange, MaxAllocation: 6 << 18, MaxDispatchCost: 1e5, SingleQueue: true, DescriptorSets: true}
}

func TestSmallerDevicesGiveTheSameVelocity(t *testing.T) {
	c := smallCheckpoint(t)
	ckpt, err := c.open(weights.DiT, weights.DiTSpec(c.ditConfig().DiTConfig))
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	full := c.ditConfig()
	sparse := full
	sparse.Nabla = &dit.Nabla{P: 0.8, Window: [3]int{3, 3, 3}}
	size := dit.Size{Frames: 5, Height: 16, Width: 16, RopeScale: [3]float32{1, 2, 2}}
	if v := 4 * size.Tokens() * full.ModelDim; v < 160<<10 {
		t.Fatalf("the visual stream has only %d bytes", v)
	}
	for name, config := range map[string]dit.Config{"full attention": full, "NABLA": sparse} {
		t.Run(name, func(t *testing.T) {
			velocity := func(limits engine.TestLimits) []float32 {
				return velocityOf(t, enginetest.OpenPlainWith(t, engine.Options{Limits: limits}), load.FromCheckpoint(ckpt), config, size)
			}
			want := velocity(engine.TestLimits{})
			if got := velocity(smallerDevice(96 << 10)); !slices.Equal(got, want) {
				t.Error("the velocity differs from that of an unlimited device")
			}
		})
	}
}

// velocityOf evaluates a transformer for two prompts of different length.
func velocityOf(t *testing.T, d *engine.Device, r load.Reader, config dit.Config, size dit.Size) []float32 {
	t.Helper()
	m, err := dit.New(t.Context(), d, r, config, dit.Options{Visual: dit.SwapOptions{Slots: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	arena := d.NewArena("test")
	defer arena.Release()
	latents := arena.Alloc("latents", engine.F32, size.Frames, size.Height, size.Width, config.InVisualDim)
	prompts := []dit.Prompt{{Text: arena.Alloc("text", engine.F32, 70, config.InTextDim), Pooled: waves(config.InTextDim2)},
		{Text: arena.Alloc("text", engine.F32, 3, config.InTextDim), Pooled: waves(config.InTextDim2)}}
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	for _, x := range []engine.Tensor{latents, prompts[0].Text, prompts[1].Text} {
		if err := d.UploadF32(t.Context(), x, waves(int(x.Elems()))); err != nil {
			t.Fatal(err)
		}
	}
	pass, err := m.NewPass(t.Context(), dit.PassOptions{Size: size, Prompts: prompts, Times: []float32{500}})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	out, err := pass.Evaluate(t.Context(), dit.Input{Latents: latents, Time: 500, MaskFrames: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []float32
	for _, v := range out {
		values, err := d.DownloadF32(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, values...)
	}
	return all
}

// waves are numbers between −1 and 1 that look unlike each other.
func waves(n int) []float32 {
	out := make([]float32, n)
	for k := range out {
		out[k] = float32(math.Sin(float64(k) * 1.7))
	}
	return out
}

func TestSmallerDevicesGiveTheSameFrames(t *testing.T) {
	c := smallCheckpoint(t)
	var nets networks
	if err := nets.openVAE(c); err != nil {
		t.Fatal(err)
	}
	defer nets.vae.Close()
	frames := func(limits engine.TestLimits) []byte {
		d := enginetest.OpenPlainWith(t, engine.Options{Limits: limits})
		v, err := vae.New(d, nets.vaeReader, nets.vaeConfig, load.Mixed)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.LoadDecoder(t.Context()); err != nil {
			t.Fatal(err)
		}
		latents, err := d.Alloc("latents", engine.F32, 2, 4, 8, nets.vaeConfig.LatentChannels)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Free(latents)
		if err := d.UploadF32(t.Context(), latents, waves(int(latents.Elems()))); err != nil {
			t.Fatal(err)
		}
		var out []byte
		tiling := vae.Tiling{Frames: 17, FrameStride: 8, Height: 32, Width: 48, HeightStep: 32, WidthStep: 32}
		err = v.Decode(t.Context(), latents, vae.DecodeOptions{Tiling: tiling}, func(f vae.Frames) error {
			out = append(out, f.RGB...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	want := frames(wholeDevice().Limits)
	if low, high := slices.Min(want), slices.Max(want); high-low < 50 {
		t.Fatalf("all values lie between %d and %d", low, high)
	}
	// A frame of a tile, 32×48 with 32 channels before the last reduction, has 96 KiB in fp16.
	if got := frames(smallerDevice(80 << 10)); !bytes.Equal(got, want) {
		t.Error("the frames differ from those of an unlimited device")
	}
}

// wholeDevice binds anything these models have at once, but less than the autoencoder's kernels for matrices ask for, which smaller
// devices do without.
func wholeDevice() engine.Options {
	return engine.Options{Limits: engine.TestLimits{MaxStorageRange: 64 << 20}}
}
