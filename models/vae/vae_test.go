package vae

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// input uploads a case's input.
func (g golden) input(t testing.TB, dev *engine.Device, name string) engine.Tensor {
	t.Helper()
	values, shape := g.channelsLast(t, name+".in")
	return upload(t, dev, values, shape...)
}

func upload(t testing.TB, dev *engine.Device, values []float32, shape ...int) engine.Tensor {
	t.Helper()
	in, err := dev.Alloc("test input", engine.F32, shape...)
	if err == nil {
		t.Cleanup(func() { dev.Free(in) })
		err = dev.UploadF32(t.Context(), in, values)
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// decode returns all frames as floats, or as the numbers of their bytes.
func decode(t testing.TB, v *VAE, latents engine.Tensor, o DecodeOptions) []float32 {
	t.Helper()
	var out []float32
	err := v.Decode(t.Context(), latents, o, func(f Frames) error {
		out = append(out, f.Float...)
		for _, b := range f.RGB {
			out = append(out, float32(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestBytesAreTheFloatsClampedAndTruncated(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	v := newGoldenVAE(t, g, dev, load.Float32)
	in := g.input(t, dev, "dec_image")
	floats := decode(t, v, in, DecodeOptions{Float: true, Gain: 3})
	bytes := decode(t, v, in, DecodeOptions{Gain: 3})
	if len(floats) != len(bytes) || len(bytes) != 48*64*3 {
		t.Fatalf("%d floats, %d bytes", len(floats), len(bytes))
	}
	levels := map[float32]int{}
	for i, f := range floats {
		want := float32(math.Trunc(float64((min(max(f, -1), 1) + 1) * 127.5)))
		if bytes[i] != want {
			t.Fatalf("byte %d of %g is %g, want %g", i, f, bytes[i], want)
		}
		levels[want]++
	}
	if len(levels) < 50 {
		t.Errorf("only %d different levels: the case shows nothing", len(levels))
	}
	for i, f := range decode(t, v, in, DecodeOptions{Float: true}) {
		if f == floats[i] && f != 0 {
			t.Fatalf("value %d does not depend on the gain", i)
		}
	}
}

func TestResultsAreTheSameBitsOnSmallerDevices(t *testing.T) {
	g := openGolden(t)
	for _, p := range []load.Precision{load.Float32, load.Mixed} {
		t.Run(p.String(), func(t *testing.T) {
			var want []float32
			for _, c := range []struct {
				name   string
				limits engine.TestLimits
				slab   int64
			}{
				{name: "as it is"},
				{name: "once more"},
				{name: "small bindings and dispatches", limits: engine.TestLimits{MaxStorageRange: 256 << 10, MaxDispatchCost: 2e6}},
				{name: "small allocations", slab: 512 << 10},
			} {
				if c.limits.MaxStorageRange == 0 {
					c.limits.MaxStorageRange = leastStorageRange / 2 // matrices, which small bindings rule out, round otherwise
				}
				dev := enginetest.OpenWith(t, engine.Options{Limits: c.limits})
				v := newGoldenVAE(t, g, dev, p)
				if c.slab > 0 {
					v.limits.MaxAllocation = c.slab
				}
				got := decode(t, v, g.input(t, dev, "dec_image"), DecodeOptions{Float: true})
				if want == nil {
					want = got
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s: the frames differ by %.2g", c.name, relativeError(got, want))
				}
			}
		})
	}
}

// loud multiplies the first convolution's weights, so that all activations of the residual stream are huge.
type loud struct {
	load.Reader
	gain float32
}

func (r loud) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if err := r.Reader.Read(ctx, name, shape, to, dst); err != nil || name != "decoder.conv_in.conv.weight" {
		return err
	}
	values := make([]float32, len(dst)/int(to.Size()))
	switch to {
	case engine.F16:
		numeric.F32sFromF16(values, dst)
	case engine.F32: // to be packed
		numeric.F32sFromBytes(values, dst)
	default:
		return errors.New("the test expects fp16 weights")
	}
	for i := range values {
		values[i] *= r.gain
	}
	if to == engine.F32 {
		numeric.BytesFromF32s(dst, values)
	} else {
		numeric.F16FromF32s(dst, values)
	}
	return nil
}

func TestActivationsBeyondFP16AreRepeatedInBF16(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	in := g.input(t, dev, "dec_image")
	run := func(p load.Precision) (frames []float32, act engine.DType) {
		v, err := New(dev, loud{load.FromCheckpoint(g.ckpt), 1024}, g.config, p)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if err := v.LoadDecoder(t.Context()); err != nil {
			t.Fatal(err)
		}
		job := decodeJob(in, DecodeOptions{Float: true, Gain: 1000}, func(ctx context.Context, _ *net, f Frames, all engine.Tensor) (err error) {
			frames, err = dev.DownloadF32(ctx, all)
			return err
		})
		if act, err = v.do(t.Context(), job, *v.decoder); err != nil {
			t.Fatal(err)
		}
		return frames, act
	}
	want, _ := run(load.Float32)
	got, act := run(load.Mixed)
	if act != engine.BF16 {
		t.Errorf("activations are %v: nothing overflowed, the case shows nothing", act)
	}
	if e := relativeError(got, want); !(e <= 3e-2) {
		t.Errorf("relative error %.2e, want at most what bf16 costs", e)
	}
}

func TestBrokenNumbersAreAnError(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	values, shape := g.channelsLast(t, "dec_image.in")
	values[len(values)/2] = float32(math.NaN())
	in := upload(t, dev, values, shape...)
	for _, p := range []load.Precision{load.Float32, load.Mixed} {
		v := newGoldenVAE(t, g, dev, p)
		err := v.Decode(t.Context(), in, DecodeOptions{}, func(Frames) error {
			t.Error("frames were delivered")
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "not finite") {
			t.Errorf("%v: error %v", p, err)
		}
		v.Close()
	}
}

func TestEncodedPosteriorIsSampled(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	v := newGoldenVAE(t, g, dev, load.Float32)
	post, err := v.Encode(t.Context(), g.input(t, dev, "enc_image"), EncodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer post.Free()
	mean, logvar, err := post.Download(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]float32, len(mean))
	for i := range noise {
		noise[i] = float32(math.Sin(float64(7 * i)))
	}
	n := upload(t, dev, noise, 1, 6, 8, 16)
	y := upload(t, dev, noise, 1, 6, 8, 16)
	post.Sample(dev.Compute(), y, n, 0.476986)
	got, err := dev.DownloadF32(t.Context(), y)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		want := (float64(mean[i]) + math.Exp(float64(logvar[i])/2)*float64(noise[i])) * 0.476986
		if !(math.Abs(float64(got[i])-want) <= 1e-5*(1+math.Abs(want))) {
			t.Fatalf("sample %d is %g, want %g", i, got[i], want)
		}
	}
}

func TestNormalizeSpansMinusOneToOne(t *testing.T) {
	got := Normalize([]byte{0, 51, 255})
	if !slices.Equal(got, []float32{-1, float32(51)/127.5 - 1, 1}) {
		t.Errorf("got %v", got)
	}
}

func TestImpossibleInputIsAnErrorBeforeWork(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	v, err := New(dev, load.FromCheckpoint(g.ckpt), g.config, load.Mixed)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	ctx := t.Context()
	tensor := func(shape ...int) engine.Tensor {
		n := 1
		for _, s := range shape {
			n *= s
		}
		return upload(t, dev, make([]float32, n), shape...)
	}
	latents, pixels := tensor(1, 2, 2, 16), tensor(1, 16, 16, 3)
	never := func(Frames) error { t.Error("frames were delivered"); return nil }
	expect := func(name, words string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), words) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", name, err, words)
		}
	}
	expect("decode without weights", "not loaded", v.Decode(ctx, latents, DecodeOptions{}, never))
	_, err = v.Encode(ctx, pixels, EncodeOptions{})
	expect("encode without weights", "not loaded", err)
	if err := errors.Join(v.LoadDecoder(ctx), v.LoadDecoder(ctx), v.LoadEncoder(ctx)); err != nil {
		t.Fatal(err)
	}
	expect("latents of 3 channels", "want floats", v.Decode(ctx, pixels, DecodeOptions{}, never))
	expect("a bad tiling", "tiling", v.Decode(ctx, latents, DecodeOptions{Tiling: Tiling{Height: 3}}, never))
	_, err = v.Encode(ctx, latents, EncodeOptions{})
	expect("pixels of 16 channels", "want floats", err)
	_, err = v.Encode(ctx, tensor(1, 12, 16, 3), EncodeOptions{})
	expect("12 rows", "multiples of 8", err)
	_, err = v.Encode(ctx, tensor(2, 16, 16, 3), EncodeOptions{})
	expect("2 frames", "4k + 1", err)

	config := g.config
	config.LayersPerBlock = 7
	_, err = New(dev, load.FromCheckpoint(g.ckpt), config, load.Mixed)
	expect("a checkpoint with too few layers", "missing", err)
	config.NormNumGroups = 5
	_, err = New(dev, load.FromCheckpoint(g.ckpt), config, load.Mixed)
	expect("groups that do not divide", "norm_num_groups", err)
}

func TestCancelledAndRefusedDecodesEndAtOnce(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	v := newGoldenVAE(t, g, dev, load.Mixed)
	in := g.input(t, dev, "dec_video_tiled")
	used := dev.Mem.Used(memory.Device)
	cancelled, cancel := context.WithCancel(t.Context())
	tiles := 0
	o := DecodeOptions{Tiling: g.tiling, Progress: func(done, total int) {
		tiles++
		if done != 1 || total != 8 {
			t.Errorf("tile %d of %d", done, total)
		}
		cancel()
	}}
	never := func(Frames) error { t.Error("frames were delivered"); return nil }
	if err := v.Decode(cancelled, in, o, never); !errors.Is(err, context.Canceled) || tiles != 1 {
		t.Errorf("error %v after %d tiles", err, tiles)
	}
	if _, err := v.Encode(cancelled, g.input(t, dev, "enc_image"), EncodeOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("encode: error %v", err)
	}
	refusal := errors.New("disk full")
	frames := 0
	small := g.input(t, dev, "dec_image")
	err := v.Decode(t.Context(), small, DecodeOptions{}, func(f Frames) error { frames += f.Count; return refusal })
	if !errors.Is(err, refusal) || frames != 1 {
		t.Errorf("error %v after %d frames", err, frames)
	}
	if err := dev.Compute().Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := dev.Mem.Used(memory.Device); now != used {
		t.Errorf("%d bytes in use, %d before", now, used)
	}
}

// TestTilesThatDoNotFitEvenlyAreBlended joins tiles on the host, decoded one by one, as Decode must.
func TestTilesThatDoNotFitEvenlyAreBlended(t *testing.T) {
	g := openGolden(t)
	dev := enginetest.Open(t)
	v := newGoldenVAE(t, g, dev, load.Float32)
	const h, w, channels = 9, 10, 16
	values, _ := g.channelsLast(t, "dec_video_tiled.in")
	values = values[:h*w*channels]
	// Starts along the rows are 0 and 3, along the columns 0, 2 and 5: the last tiles overlap more or less than the others.
	tiling := Tiling{Height: 48, HeightStep: 40, Width: 40, WidthStep: 16}
	got := decode(t, v, upload(t, dev, values, 1, h, w, channels), DecodeOptions{Tiling: tiling, Float: true})

	rows, columns := cuts(h, 6, 5), cuts(w, 5, 2)
	if len(rows) != 2 || len(columns) != 3 || rows[1].fade != 3 || columns[1].fade != 3 || columns[2].fade != 2 {
		t.Fatalf("the tiles are not those meant: %+v, %+v", rows, columns)
	}
	want := make([]float32, h*8*w*8*3)
	tiles := make([][][]float32, len(rows))
	for r, row := range rows {
		for c, column := range columns {
			var crop []float32
			for y := row.from; y < row.to; y++ {
				crop = append(crop, values[(y*w+column.from)*channels:(y*w+column.to)*channels]...)
			}
			height, width := (row.to-row.from)*8, (column.to-column.from)*8
			tile := decode(t, v, upload(t, dev, crop, 1, height/8, width/8, channels), DecodeOptions{Float: true})
			at := func(y, x int) int { return (y*width + x) * 3 }
			mix := func(to int, other []float32, from, i, extent int) {
				for k := range 3 {
					part := float32(i) / float32(extent)
					tile[to+k] = other[from+k]*(1-part) + tile[to+k]*part
				}
			}
			if r > 0 {
				for i := range row.fade * 8 {
					for x := range width {
						mix(at(i, x), tiles[r-1][c], at(height-row.fade*8+i, x), i, row.fade*8)
					}
				}
			}
			if c > 0 {
				for y := range height {
					for i := range column.fade * 8 {
						mix(at(y, i), tiles[r][c-1], at(y, width-column.fade*8+i), i, column.fade*8)
					}
				}
			}
			tiles[r] = append(tiles[r], tile)
			for y := range row.keep * 8 {
				to := ((row.from*8+y)*w*8 + column.from*8) * 3
				copy(want[to:to+column.keep*8*3], tile[at(y, 0):])
			}
		}
	}
	if e := relativeError(got, want); !(e <= 1e-6) {
		t.Errorf("relative error %.2e", e)
	}
}
