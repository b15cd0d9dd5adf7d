package dit

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// TestCodedBlocksGiveTheBitsOfThoseThatAreNot compares any number of blocks on the device, either host tier, one queue or several.
func TestCodedBlocksGiveTheBitsOfThoseThatAreNot(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks = 4, 1
	size := Size{Frames: 2, Height: 8, Width: 12, RopeScale: [3]float32{1, 1, 1}}
	reader := load.Synthetic(weights.BF16)
	d := enginetest.Open(t)
	want := velocityWith(t, d, reader, config, size, Options{})
	for _, visual := range []SwapOptions{{}, {Slots: 1}, {Slots: 2, Tier: swap.Mapped}, {Slots: 3, Policy: swap.FIFO}, {Slots: 3, Stream: 1}} {
		visual.Host = load.CodedWeights
		t.Run(fmt.Sprintf("%+v", visual), func(t *testing.T) {
			if got := velocityWith(t, d, reader, config, size, Options{Visual: visual}); !slices.Equal(got, want) {
				t.Errorf("velocities differ by %g", distance(got, want))
			}
		})
	}
	shared := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{SingleQueue: true}})
	if got := velocityWith(t, shared, reader, config, size, Options{Visual: SwapOptions{Slots: 2, Host: load.CodedWeights}}); !slices.Equal(got, want) {
		t.Error("with one queue, velocities differ")
	}
}

// wild is a Reader whose weights have exponents of any size in one block.
type wild struct {
	load.Reader
	block string
}

func (r wild) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if err := r.Reader.Read(ctx, name, shape, to, dst); err != nil || !strings.HasPrefix(name, r.block) || to != engine.BF16 {
		return err
	}
	for i := 0; i < len(dst); i += 2 {
		v := math.Exp2(float64(uint32(i)*2654435761>>24)-128) * 1e-3
		binary.LittleEndian.PutUint16(dst[i:], uint16(math.Float32bits(float32(v))>>16))
	}
	return nil
}

func TestWeightsThatCannotBeCodedAreRefused(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks = 3, 1
	for name, c := range map[string]struct {
		reader load.Reader
		limits engine.TestLimits
		want   string
	}{
		"exponents of any size": {wild{load.Synthetic(weights.BF16), "visual_transformer_blocks.0."}, engine.TestLimits{}, "visual_transformer_blocks.0.*: the weights' exponents vary too much"},
		"f16":                   {load.Synthetic(weights.F16), engine.TestLimits{}, "has no matrices in bf16"},
		"small bindings":        {load.Synthetic(weights.BF16), engine.TestLimits{MaxStorageRange: 8 << 10}, "the device allows"},
	} {
		for _, tier := range []swap.HostTier{swap.Pinned, swap.Mapped} {
			t.Run(fmt.Sprintf("%s, %s", name, tier), func(t *testing.T) {
				d := enginetest.OpenWith(t, engine.Options{Limits: c.limits})
				m, err := New(t.Context(), d, c.reader, config, Options{Visual: SwapOptions{Slots: 1, Tier: tier, Host: load.CodedWeights}})
				for end := time.Now().Add(2 * time.Minute); m != nil && err == nil && time.Now().Before(end); time.Sleep(time.Millisecond) { // the mapped tier reads behind our back
					err = m.Err()
				}
				if m != nil {
					_ = m.Close()
				}
				if err == nil {
					t.Fatal("no error")
				}
				if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "--host-weights bf16") {
					t.Errorf("got %q, want %q and a remedy", err, c.want)
				}
			})
		}
	}
}

// TestCodedBlocksTakeWhatTheDocumentationSays holds the 20B model to it.
func TestCodedBlocksTakeWhatTheDocumentationSays(t *testing.T) {
	l, err := layoutOf(load.Synthetic(weights.BF16), Config{DiTConfig: weights.ProVideoDiT()}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	coded, err := SwapOptions{Host: load.CodedWeights}.pack(l.visual)
	if err != nil {
		t.Fatal(err)
	}
	full, got := float64(l.visual.BlockBytes()), float64(coded.BlockBytes())
	if share := got / full; share < 0.71 || share > 0.725 {
		t.Errorf("a block of %.0f bytes takes %.0f, %.3f of it", full, got, share)
	}
	t.Logf("block %.1f MiB, coded %.1f MiB, room %.1f MiB", full/(1<<20), got/(1<<20), float64(coded.RoomBytes())/(1<<20))
}

// TestUnpackingIsPartOfABlock looks at the marks that stalls are counted by: work before a block's begin would hide them.
func TestUnpackingIsPartOfABlock(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks = 2, 1
	size := Size{Frames: 1, Height: 4, Width: 4, RopeScale: [3]float32{1, 1, 1}}
	for host, kernel := range map[load.HostWeights]string{load.Int8Weights: "dequantize", load.CodedWeights: "decode exponents"} {
		d := enginetest.OpenWith(t, engine.Options{Timings: true})
		if !d.Compute().Timed() {
			t.Skip("the queue has no timestamps")
		}
		velocityWith(t, d, load.Synthetic(weights.BF16), config, size, Options{Visual: SwapOptions{Host: host}})
		inside, unpacked := false, 0
		for _, s := range d.Compute().TakeSpans() {
			switch {
			case strings.HasPrefix(s.Label, "block "):
				inside = strings.HasSuffix(s.Label, "begin")
			case strings.HasPrefix(s.Label, kernel):
				unpacked++
				if !inside {
					t.Fatalf("%s: %q is outside of a block", host, s.Label)
				}
			}
		}
		if unpacked == 0 {
			t.Errorf("%s: nothing was unpacked", host)
		}
	}
}
