package qwen

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// TestLogitsOfALargeVocabulary has an lm_head of several pieces, one of them short.
func TestLogitsOfALargeVocabulary(t *testing.T) {
	config, reader := largeLayers()
	config.Text.NumHiddenLayers = 1
	if piece := headPiece(config.Text, engine.BF16); piece >= config.Text.VocabSize || config.Text.VocabSize%piece == 0 {
		t.Fatalf("pieces of %d rows of %d test nothing", piece, config.Text.VocabSize)
	}
	d := enginetest.OpenPlain(t)
	var results [][]float32
	var states []float32
	for _, keep := range []bool{false, true} {
		m, err := New(t.Context(), d, reader, config, Options{KeepHead: keep})
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := m.Hidden(t.Context(), []int32{5, 69_999, 7}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			logits, err := m.Logits(t.Context(), hidden, []int{2, 0})
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, logits)
		}
		if _, err := m.Logits(t.Context(), hidden, []int{3}); err == nil {
			t.Error("logits of a row that does not exist")
		}
		states = take(t, d, hidden)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	for k := range results {
		if !slices.Equal(results[k], results[0]) {
			t.Errorf("result %d differs from the first", k)
		}
	}
	width, vocab := config.Text.HiddenSize, config.Text.VocabSize
	head := make([]byte, vocab*width*4)
	if err := reader.Read(t.Context(), "lm_head.weight", []int{vocab, width}, engine.F32, head); err != nil {
		t.Fatal(err)
	}
	var want, got []float32
	for r, row := range []int{2, 0} {
		for v := r; v < vocab; v += 997 {
			var sum float64
			for k := range width {
				w := math.Float32frombits(binary.LittleEndian.Uint32(head[(v*width+k)*4:]))
				sum += float64(w) * float64(states[row*width+k])
			}
			want, got = append(want, float32(sum)), append(got, results[0][r*vocab+v])
		}
	}
	within(t, "logits", got, want, 5e-3) // lm_head is bf16 on the device
}

func TestAContinuedTextIsAsIfComputedAnew(t *testing.T) {
	g := openGolden(t)
	p := g.picture(t)
	d := enginetest.OpenPlain(t)
	m := g.open(t, d, Options{Precision: load.Float32, LayersInMemory: 2, KeepHead: true})
	steps := 0
	ids, err := m.Generate(t.Context(), p, GenerateOptions{Max: 9, Stop: []int32{77}, Choose: func(logits []float32, ids []int32) (int32, error) {
		steps++
		if steps == 5 {
			return 77, nil
		}
		hidden, err := m.Encode(t.Context(), []Prompt{{IDs: ids, Images: p.Images}})
		if err != nil {
			return 0, err
		}
		defer d.Free(hidden[0])
		anew, err := m.Logits(t.Context(), hidden[0], []int{len(ids) - 1})
		if err != nil {
			return 0, err
		}
		within(t, "logits", logits, anew, 1e-5)
		return int32(100 + steps), nil
	}})
	if err != nil || !slices.Equal(ids, []int32{101, 102, 103, 104, 77}) {
		t.Errorf("got %v and %v", ids, err)
	}
}

func TestGenerateRefusesWhatItCannotDo(t *testing.T) {
	g := openGolden(t)
	m := g.open(t, enginetest.OpenPlain(t), Options{})
	for name, c := range map[string]struct {
		prompt Prompt
		opts   GenerateOptions
	}{
		"a mask":            {Prompt{IDs: []int32{1}, Mask: []bool{true}}, GenerateOptions{Max: 1}},
		"no ids to add":     {Prompt{IDs: []int32{1}}, GenerateOptions{}},
		"an unknown id":     {Prompt{IDs: []int32{512}}, GenerateOptions{Max: 1}},
		"a choice too high": {Prompt{IDs: []int32{1}}, GenerateOptions{Max: 1, Choose: func([]float32, []int32) (int32, error) { return 512, nil }}},
	} {
		t.Run(name, func(t *testing.T) {
			if ids, err := m.Generate(t.Context(), c.prompt, c.opts); err == nil {
				t.Errorf("got %v", ids)
			}
		})
	}
	if _, err := Greedy([]float32{1, float32(math.NaN())}, nil); err == nil {
		t.Error("a logit that is not a number was taken")
	}
	if id, err := Greedy([]float32{-1, 3, 3}, nil); id != 1 || err != nil {
		t.Errorf("the first of the largest logits is 1, got %d and %v", id, err)
	}
}
