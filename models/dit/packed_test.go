package dit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// coarse is a Reader whose visual blocks have, in full width, the values that eight bits leave of another's. It is what packed
// blocks must be equal to.
type coarse struct{ load.Reader }

func (r coarse) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	linear := strings.Contains(name, "attention.") || strings.Contains(name, "feed_forward.")
	if !strings.HasPrefix(name, visualPrefix) || len(shape) != 2 || !linear {
		return r.Reader.Read(ctx, name, shape, to, dst)
	}
	raw := make([]byte, 4*shape[0]*shape[1])
	if err := r.Reader.Read(ctx, name, shape, engine.F32, raw); err != nil {
		return err
	}
	values := make([]float32, shape[0]*shape[1])
	numeric.F32sFromBytes(values, raw)
	for at := 0; at < len(values); at += 128 {
		run := values[at : at+128]
		var largest float32
		for _, f := range run {
			largest = max(largest, f, -f)
		}
		scale := largest / 127
		inverse := 1 / scale
		for i, f := range run {
			run[i] = float32(math.RoundToEven(float64(f*inverse))) * scale
		}
	}
	if to == engine.F32 {
		numeric.BytesFromF32s(dst, values)
		return nil
	}
	for i, f := range values {
		binary.LittleEndian.PutUint16(dst[2*i:], numeric.BF16FromF32(f))
	}
	return nil
}

// TestBlocksInEightBitsAreTheSameHoweverTheyAreHeld compares bits: any number of blocks on the device, either host tier, one
// queue or several, and a model that has the coarse values from the start.
func TestBlocksInEightBitsAreTheSameHoweverTheyAreHeld(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.NumVisualBlocks, config.NumTextBlocks = 4, 1
	size := Size{Frames: 2, Height: 8, Width: 12, RopeScale: [3]float32{1, 1, 1}}
	reader := load.Synthetic(weights.BF16)
	for _, precision := range []load.Precision{load.Mixed, load.Float32} {
		d := enginetest.Open(t)
		want := velocityWith(t, d, coarse{reader}, config, size, Options{Precision: precision})
		full := velocityWith(t, d, reader, config, size, Options{Precision: precision})
		if e := distance(want, full); e == 0 || e > 0.05 {
			t.Errorf("%s: eight bits change the velocity by %g", precision, e)
		}
		for _, visual := range []SwapOptions{{}, {Slots: 1}, {Slots: 2, Tier: swap.Mapped}, {Slots: 3, Policy: swap.FIFO}, {Slots: 3, Stream: 1}} {
			visual.Host = load.Int8Weights
			t.Run(fmt.Sprintf("%s, %+v", precision, visual), func(t *testing.T) {
				if got := velocityWith(t, d, reader, config, size, Options{Precision: precision, Visual: visual}); !slices.Equal(got, want) {
					t.Errorf("velocities differ by %g", distance(got, want))
				}
			})
		}
	}
	shared := enginetest.OpenWith(t, engine.Options{Limits: engine.TestLimits{SingleQueue: true}})
	want := velocityWith(t, shared, coarse{reader}, config, size, Options{})
	if got := velocityWith(t, shared, reader, config, size, Options{Visual: SwapOptions{Slots: 2, Host: load.Int8Weights}}); !slices.Equal(got, want) {
		t.Error("with one queue, velocities differ")
	}
}

// distance is the root mean square of the differences by that of the values.
func distance(a, b []float32) float64 {
	var squares, values float64
	for i := range a {
		squares += float64(a[i]-b[i]) * float64(a[i]-b[i])
		values += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(squares / values)
}

// TestPackedBlocksTakeLittleMoreThanHalf holds the 20B model to what the documentation says.
func TestPackedBlocksTakeLittleMoreThanHalf(t *testing.T) {
	l, err := layoutOf(load.Synthetic(weights.BF16), Config{DiTConfig: weights.ProVideoDiT()}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	packed, err := SwapOptions{Host: load.Int8Weights}.pack(l.visual)
	if err != nil {
		t.Fatal(err)
	}
	full, got := l.visual.BlockBytes(), packed.BlockBytes()
	if share := float64(got) / float64(full); share < 0.5 || share > 0.58 {
		t.Errorf("a block of %d bytes takes %d packed, %.2f of it", full, got, share)
	}
	t.Logf("block %d bytes, packed %d, room %d", full, got, packed.RoomBytes())
}

// TestPackedBlocksThatDoNotFitLeaveNothing raises the budget until a model fits; the devices' own checks find what is left.
func TestPackedBlocksThatDoNotFitLeaveNothing(t *testing.T) {
	config := Config{DiTConfig: weights.SmallSynth().DiT}
	config.ModelDim, config.FFDim = 1024, 4096 // so that slots and the room for unpacking are allocations of their own
	config.NumVisualBlocks, config.NumTextBlocks = 2, 1
	refused := map[string]bool{}
	for budget := int64(8 << 20); ; budget += 8 << 20 {
		d := enginetest.OpenWith(t, engine.Options{DeviceBudget: budget})
		m, err := New(t.Context(), d, load.Synthetic(weights.BF16), config, Options{Visual: SwapOptions{Slots: 1, Host: load.Int8Weights}})
		if err == nil {
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			break
		}
		var over *memory.BudgetError
		if !errors.As(err, &over) {
			t.Fatal(err)
		}
		refused[over.Label] = true
	}
	if !refused["visual blocks: unpacked"] || !refused["visual blocks: slots"] {
		t.Errorf("refused were %v, want the room for unpacking and the slot among them", refused)
	}
}
