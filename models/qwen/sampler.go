package qwen

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// coldest is the temperature up to which the likeliest id is taken and nothing is drawn: an id that is behind by more
// than a hundredth of a logit has no chance there, and dividing by less would overflow.
const coldest = 1e-5

// Chooser returns the rule by which a generation configuration picks ids: each logit of an id that occurred, in prompt
// or continuation, is weakened by the repetition penalty; then the likeliest is taken, or at a temperature one is drawn
// among the top_k likeliest and of these the fewest that have probability top_p together (transformers,
// generation/logits_process.py). What is drawn follows from the seed alone: a PCG of math/rand/v2, seeded with
// (seed, 0), one number for each id.
func Chooser(c weights.GenerationConfig, seed uint64) func(logits []float32, ids []int32) (int32, error) {
	random := rand.New(rand.NewPCG(seed, 0))
	return func(logits []float32, ids []int32) (int32, error) {
		best, err := Greedy(logits, ids) // looks for what is not a number
		if err != nil {
			return 0, err
		}
		if top := logits[best]; math.IsInf(float64(top), 0) {
			return 0, fmt.Errorf("qwen: logit %d is infinite", best)
		}
		logits = penalised(logits, ids, float32(c.RepetitionPenalty))
		if !c.DoSample || c.Temperature <= coldest {
			return Greedy(logits, ids)
		}
		return draw(logits, c, random.Float64()), nil
	}
}

// penalised divides the positive logits of ids that occurred, and multiplies the negative ones, once for each id.
func penalised(logits []float32, ids []int32, penalty float32) []float32 {
	if penalty == 1 {
		return logits
	}
	out := slices.Clone(logits)
	for _, id := range ids {
		if id < 0 || int(id) >= len(logits) {
			continue
		}
		if v := logits[id]; v < 0 {
			out[id] = v * penalty
		} else {
			out[id] = v / penalty
		}
	}
	return out
}

// draw picks the id at which the probabilities, added up from the likeliest on, pass u, 0 ≤ u < 1.
func draw(logits []float32, c weights.GenerationConfig, u float64) int32 {
	order := make([]int32, len(logits))
	for k := range order {
		order[k] = int32(k)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(logits[b], logits[a]) })
	if c.TopK > 0 {
		order = order[:min(c.TopK, len(order))]
	}
	p := make([]float64, len(order))
	var sum float64
	for k, id := range order {
		p[k] = math.Exp((float64(logits[id]) - float64(logits[order[0]])) / c.Temperature)
		sum += p[k]
	}
	var kept float64
	n := 0
	for n < len(p) && (n == 0 || kept < c.TopP*sum) {
		kept += p[n]
		n++
	}
	at := u * kept
	for k := range n - 1 {
		if at -= p[k]; at < 0 {
			return order[k]
		}
	}
	return order[n-1]
}
