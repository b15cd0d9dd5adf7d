package kandinsky5

import (
	"fmt"
	"math"
)

// MagCache decides which passes skip the visual blocks and add the residual of the last full pass again (Zehong Ma et
// al., MagCache, arXiv 2506.09045; kandinsky-5, kandinsky/magcache_utils.py). It is arithmetic only: the transformer
// does what it decides.
//
// Passes are counted through both branches in turn, conditional first. The first fifth is never skipped, at most two
// passes of a branch are skipped in a row, and a skip must keep the accumulated error estimate below the threshold.
type MagCache struct {
	ratios  []float64 // per pass
	stride  int       // passes that one decision stands for: 2 without guidance
	count   int
	branch  [2]magBranch
	history []bool
}

type magBranch struct {
	err, ratio float64
	steps      int
}

const (
	magThreshold = 0.12
	magMaxSkips  = 2
	magRetention = 0.2
)

// NewMagCache prepares decisions for a run of steps steps (2·steps passes). magRatios are the configuration's measured
// ratios, conditional and unconditional in turn, without the implied first pair of ones; when there are not 2·steps−2
// of them they are resampled to the nearest. Without guidance only conditional passes are made.
//
// Upstream counts in the configuration's steps even when a call asks for others, which misaligns the ratios with the
// steps; here they follow the steps that are made.
func NewMagCache(magRatios []float64, steps int, guided bool) (*MagCache, error) {
	if len(magRatios) == 0 {
		return nil, fmt.Errorf("the configuration has no magcache.mag_ratios, so MagCache cannot be used with it")
	}
	if len(magRatios)%2 != 0 || steps < 1 {
		return nil, fmt.Errorf("%d magnitude ratios for %d steps: an even number is needed", len(magRatios), steps)
	}
	ratios := append([]float64{1, 1}, magRatios...)
	if len(ratios) != 2*steps {
		ratios = resampleRatios(ratios, steps)
	}
	m := &MagCache{ratios: ratios, stride: 1}
	if !guided {
		m.stride = 2
	}
	m.reset()
	return m, nil
}

// resampleRatios picks the nearest of the given steps for each of steps steps, for both branches.
func resampleRatios(r []float64, steps int) []float64 {
	m := len(r) / 2
	out := make([]float64, 0, 2*steps)
	for i := range steps {
		at := m - 1
		if steps > 1 {
			at = int(math.RoundToEven(float64(i) * float64(m-1) / float64(steps-1)))
		}
		out = append(out, r[2*at], r[2*at+1])
	}
	return out
}

// Next decides about the next pass of a branch: true to skip. Branches alternate, 0 (conditional) first.
func (m *MagCache) Next() (skip bool) {
	b := &m.branch[m.count%2]
	if m.count >= max(2, int(float64(len(m.ratios))*magRetention)) { // a branch's first pass has no residual before it
		b.ratio *= m.ratios[m.count]
		b.steps++
		b.err += math.Abs(1 - b.ratio)
		if b.err < magThreshold && b.steps <= magMaxSkips {
			skip = true
		} else {
			*b = magBranch{ratio: 1}
		}
	}
	m.history = append(m.history, skip)
	if m.count += m.stride; m.count >= len(m.ratios) {
		m.reset()
	}
	return skip
}

func (m *MagCache) reset() {
	m.count = 0
	m.branch = [2]magBranch{{ratio: 1}, {ratio: 1}}
}

// Skipped returns the decisions so far, one per pass.
func (m *MagCache) Skipped() []bool { return m.history }

// Advance counts the passes of steps that were made before, as Next would.
func (m *MagCache) Advance(steps int) {
	for range steps * 2 / m.stride {
		m.Next()
	}
}

// Plan returns what Next will say about every step's branches, from the first step on: true to skip. It changes nothing.
func (m *MagCache) Plan() [][]bool {
	fresh := &MagCache{ratios: m.ratios, stride: m.stride}
	fresh.reset()
	out := make([][]bool, len(m.ratios)/2)
	for i := range out {
		out[i] = make([]bool, 2/m.stride)
		for k := range out[i] {
			out[i][k] = fresh.Next()
		}
	}
	return out
}

// residualSteps returns the steps whose residuals a run that begins with a step needs, by branch; -1 where the branch's
// pass is made in full.
func residualSteps(plan [][]bool, step int) []int {
	if step >= len(plan) {
		return nil
	}
	out := make([]int, len(plan[step]))
	for k, skip := range plan[step] {
		out[k] = -1
		if skip {
			for out[k] = step - 1; out[k] >= 0 && plan[out[k]][k]; out[k]-- {
			}
		}
	}
	return out
}
