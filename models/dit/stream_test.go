package dit

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestTheVisualStreamIsCutWhereOneAllocationIsTooSmall(t *testing.T) {
	c := Config{DiTConfig: weights.ProVideoDiT()}
	const tokens = 234240 // 768×1280, 10 s
	for limit, want := range map[int64]int{0: 1, 4 << 30: 1, 2 << 30: 2, 1 << 30: 4} {
		list := c.streamBuffers(tokens, limit)
		if len(list) != want {
			t.Errorf("with allocations of %d bytes there are %d pieces, want %d", limit, len(list), want)
		}
		rows := 0
		for k, b := range list {
			if limit > 0 && b.Bytes() > limit {
				t.Errorf("piece %d has %d bytes, at most %d are allowed", k, b.Bytes(), limit)
			}
			if k < len(list)-1 && b.Shape[0]%64 != 0 {
				t.Errorf("piece %d ends at a token that is no multiple of 64", k)
			}
			rows += b.Shape[0]
		}
		if rows != tokens {
			t.Errorf("the pieces hold %d tokens of %d", rows, tokens)
		}
	}
}

func TestACutStreamGivesTheSameVelocity(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks, config.FFDim = 1, 1, 128
	size := Size{Frames: 10, Height: 32, Width: 32, RopeScale: [3]float32{1, 2, 2}}
	const limit = 1 << 20
	if n := len(config.streamBuffers(size.Tokens(), limit)); n != 2 {
		t.Fatalf("the stream is cut into %d pieces, want 2", n)
	}
	whole := velocityOf(t, enginetest.Open(t), config, Options{}, size)
	cut := velocityOf(t, enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{MaxAllocation: limit}}), config, Options{}, size)
	if !slices.Equal(whole, cut) {
		t.Error("velocities differ")
	}
}

// velocityOf computes the velocity of made-up weights and inputs.
func velocityOf(t *testing.T, d *engine.Device, config Config, o Options, size Size) []float32 {
	t.Helper()
	return velocityWith(t, d, load.Synthetic(weights.BF16), config, size, o)
}

// velocityWith is velocityOf with weights of a reader, held in some way.
func velocityWith(t *testing.T, d *engine.Device, r load.Reader, config Config, size Size, o Options) []float32 {
	t.Helper()
	ctx := t.Context()
	m, err := New(ctx, d, r, config, o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	text, err := d.Alloc("text", engine.F32, 3, config.InTextDim)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(text)
	latents, err := d.Alloc("latents", engine.F32, size.Frames, size.Height, size.Width, config.InVisualDim)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(latents)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, x := range []engine.Tensor{text, latents} {
		values := make([]float32, x.Elems())
		for k := range values {
			values[k] = float32(rng.NormFloat64())
		}
		if err := d.UploadF32(ctx, x, values); err != nil {
			t.Fatal(err)
		}
	}
	pass, err := m.NewPass(ctx, PassOptions{Size: size, Times: []float32{500}, Prompts: []Prompt{{Text: text, Pooled: make([]float32, config.InTextDim2)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	v, err := pass.Evaluate(ctx, Input{Latents: latents, MaskFrames: 1, Time: 500}, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.DownloadF32(ctx, v[0])
	if err != nil {
		t.Fatal(err)
	}
	return out
}
