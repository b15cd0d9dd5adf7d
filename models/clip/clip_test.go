package clip

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
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestMatchesTheReference(t *testing.T) {
	g := openGolden(t)
	for _, c := range []struct {
		tier      engine.Tier
		precision load.Precision
		limit     float64
	}{{engine.TierBase, load.Float32, 1e-5}, {engine.TierBase, load.Mixed, 5e-3}, {engine.TierFP16, load.Mixed, 5e-3}} {
		t.Run(fmt.Sprintf("%v kernels in %v", c.tier, c.precision), func(t *testing.T) {
			d := enginetest.OpenWith(t, engine.Options{Tier: c.tier})
			m, err := New(t.Context(), d, g.reader, g.config, Options{Precision: c.precision})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for k, ids := range g.prompts() {
				hidden, err := m.Hidden(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				got, err := d.DownloadF32(t.Context(), hidden)
				d.Free(hidden)
				if err != nil {
					t.Fatal(err)
				}
				within(t, got, g.slice("f32.last_hidden_state", k), c.limit)
				pooled, err := m.Pooled(t.Context(), ids)
				if err != nil {
					t.Fatal(err)
				}
				within(t, pooled, g.slice("f32.pooler_output", k), c.limit)
			}
		})
	}
}

func TestPooledRowIsTheFirstEndToken(t *testing.T) {
	published := weights.CLIPViTL14()
	other := published
	other.EOSTokenID = 7
	for _, c := range []struct {
		name   string
		config weights.CLIPConfig
		ids    []int32
		row    int
		err    string
	}{
		{"the largest id marks it", published, []int32{49406, 5, 49407, 49407}, 2, ""},
		{"also where nothing else is larger", published, []int32{9, 3, 1}, 0, ""},
		{"a named end token marks it", other, []int32{49406, 7, 49407, 7}, 1, ""},
		{"a named end token must be there", other, []int32{49406, 8}, 0, "end token 7"},
		{"no ids are refused", published, nil, 0, "0 ids"},
		{"too many ids are refused", published, make([]int32, 78), 0, "78 ids: 1 to 77"},
		{"ids beyond the vocabulary are refused", published, []int32{1, 49408}, 0, "id 49408 at place 1"},
		{"negative ids are refused", published, []int32{-1}, 0, "id -1 at place 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			row, err := pooledRow(c.config, c.ids)
			if row != c.row || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got row %d and error %v, want %d and %q", row, err, c.row, c.err)
			}
		})
	}
}

func TestBadInputLeavesNothingBehind(t *testing.T) {
	g := openGolden(t)
	d := enginetest.Open(t)
	used := d.Mem.Used(memory.Device)
	config := g.config
	config.NumAttentionHeads = 32
	if _, err := New(t.Context(), d, g.reader, config, Options{}); err == nil || !strings.Contains(err.Error(), "heads of 2 channels") {
		t.Errorf("heads of 2 channels: got %v", err)
	}
	config = g.config
	config.NumHiddenLayers++
	if _, err := New(t.Context(), d, g.reader, config, Options{}); err == nil || !strings.Contains(err.Error(), "encoder.layers.3") {
		t.Errorf("a missing layer: got %v", err)
	}
	m, err := New(t.Context(), d, g.reader, g.config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Hidden(ctx, g.prompts()[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	if _, err := m.Hidden(t.Context(), []int32{300}); err == nil {
		t.Error("an id beyond the vocabulary was taken")
	}
	m.Close()
	m.Close()
	if now := d.Mem.Used(memory.Device); now != used {
		t.Errorf("%d bytes of device memory in use, %d before", now, used)
	}
}

// TestPlanIsThePeak uses a tower whose weights are large enough to have a chunk of their own.
func TestPlanIsThePeak(t *testing.T) {
	config := weights.CLIPConfig{HiddenSize: 512, IntermediateSize: 8192, NumHiddenLayers: 2, NumAttentionHeads: 8, VocabSize: 1000,
		MaxPositionEmbeddings: 77, LayerNormEps: 1e-5, EOSTokenID: 2}
	reader := load.Synthetic(weights.F16)
	d := enginetest.Open(t)
	m, err := New(t.Context(), d, reader, config, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	d.Mem.ResetPeak()
	pooled, err := m.Pooled(t.Context(), slices.Repeat([]int32{999}, 77))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range pooled {
		if !(v > -100 && v < 100) {
			t.Fatalf("pooled value %d is %g", k, v)
		}
	}
	items, err := Plan(config, reader, load.Mixed, 77, m.half)
	if err != nil {
		t.Fatal(err)
	}
	var planned int64
	for _, i := range items {
		planned += i.Bytes
		t.Logf("%-12s %12d %s", i.When, i.Bytes, i.Label)
	}
	if peak := d.Mem.Peak(memory.Device); planned != peak {
		t.Errorf("planned %d bytes, used %d", planned, peak)
	}
}
