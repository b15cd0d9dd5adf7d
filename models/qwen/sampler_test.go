package qwen

import (
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

func choose(t *testing.T, c weights.GenerationConfig, seed uint64, logits []float32, ids []int32) int32 {
	t.Helper()
	id, err := Chooser(c, seed)(logits, ids)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestThePenaltyComesFirstAndOnce(t *testing.T) {
	c := weights.GenerationOf(weights.Qwen7B())
	c.RepetitionPenalty = 2
	logits := []float32{3, 2, -1, -1.5}
	if got := choose(t, c, 1, logits, []int32{0, 0, 0}); got != 1 { // 1.5 < 2, and not 3/8
		t.Errorf("chose %d, want 1", got)
	}
	if got := choose(t, c, 1, logits, []int32{0, 1, 0}); got != 0 { // 1.5 > 1
		t.Errorf("chose %d, want 0", got)
	}
	if got := choose(t, c, 1, []float32{-1, -1.5}, []int32{0}); got != 1 { // −2 < −1.5
		t.Errorf("chose %d, want 1", got)
	}
	if logits[0] != 3 {
		t.Error("the caller's logits changed")
	}
}

// TestDrawsFollowTheProbabilities draws 4000 times: three standard deviations are at most 0.024.
func TestDrawsFollowTheProbabilities(t *testing.T) {
	logits := []float32{0, float32(math.Log(2)), float32(math.Log(4)), float32(math.Log(3))}
	for _, c := range []struct {
		name   string
		config weights.GenerationConfig
		want   []float64
	}{
		{"all", weights.GenerationConfig{Temperature: 1, TopP: 1}, []float64{0.1, 0.2, 0.4, 0.3}},
		{"half the temperature", weights.GenerationConfig{Temperature: 0.5, TopP: 1}, []float64{1. / 30, 4. / 30, 16. / 30, 9. / 30}},
		{"two likeliest", weights.GenerationConfig{Temperature: 1, TopK: 2, TopP: 1}, []float64{0, 0, 4. / 7, 3. / 7}},
		{"top_p", weights.GenerationConfig{Temperature: 1, TopP: 0.75}, []float64{0, 2. / 9, 4. / 9, 3. / 9}},
		{"next to nothing of top_p", weights.GenerationConfig{Temperature: 1, TopP: 1e-9}, []float64{0, 0, 1, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.config.DoSample, c.config.RepetitionPenalty = true, 1
			draw, again := Chooser(c.config, 5), Chooser(c.config, 5)
			count := make([]float64, 4)
			for range 4000 {
				id, err := draw(logits, nil)
				if second, _ := again(logits, nil); err != nil || second != id {
					t.Fatalf("one seed drew %d and %d, %v", id, second, err)
				}
				count[id]++
			}
			for k, want := range c.want {
				if got := count[k] / 4000; math.Abs(got-want) > 0.024 || want == 0 && got > 0 {
					t.Errorf("id %d was drawn with frequency %.3f, want %.3f", k, got, want)
				}
			}
		})
	}
}

func TestLogitsThatAreNoNumbersAreErrors(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		if _, err := Chooser(weights.GenerationConfig{DoSample: true, Temperature: 1, TopP: 1, RepetitionPenalty: 1}, 1)([]float32{0, bad}, nil); err == nil {
			t.Errorf("%g was accepted", bad)
		}
	}
}
