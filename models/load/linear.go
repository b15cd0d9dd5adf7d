package load

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Linear says in which numbers the linear layers of the transformer's visual blocks are computed.
type Linear int

// Kinds of linear layers. LinearFull is as the precision says. LinearInt8 rounds weights, when they are read, and activations,
// when they are there, to signed bytes, each with a scale per row (ops.Quantize): blocks take half the memory and half
// the bus, and results err by about a hundredth.
const (
	LinearFull Linear = iota
	LinearInt8
)

func (l Linear) String() string { return [...]string{"full", "int8"}[l] }

// ParseLinear reads "full" or "int8".
func ParseLinear(s string) (Linear, error) {
	switch s {
	case "full":
		return LinearFull, nil
	case "int8":
		return LinearInt8, nil
	}
	return 0, fmt.Errorf("unknown linear layers %q: use full or int8", s)
}

// rounds tells whether a weight becomes signed bytes: those of linear layers in a block, but for the modulation's, which has
// one row of activations and is read whole for it.
func (l Linear) rounds(name string, shape []int) bool {
	return l == LinearInt8 && len(shape) == 2 && strings.HasSuffix(name, ".weight") && !strings.Contains(name, "modulation") && ops.CanQuantize(shape[1])
}

// Rounding is how much rounding to bytes has changed weights: the root of the sum of squared changes by that of squared
// weights, and the worst tensor's. Safe for concurrent use.
type Rounding struct {
	mu           sync.Mutex
	changed, all float64
	worst        float64
	name         string
	seen         map[string]bool
}

func (r *Rounding) note(name string, changed, all float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen[name] {
		return // read again
	}
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	r.seen[name] = true
	r.changed += changed
	r.all += all
	if e := math.Sqrt(changed / max(all, 1e-300)); e > r.worst {
		r.worst, r.name = e, name
	}
}

// RoundingReport is a Rounding so far.
type RoundingReport struct {
	Tensors   int     `json:"tensors"`
	Error     float64 `json:"relative_error"`
	Worst     float64 `json:"worst_relative_error"`
	WorstName string  `json:"worst_tensor"`
}

func (r RoundingReport) String() string {
	return fmt.Sprintf("%d weights rounded to 8 bits: relative error %.2g, at most %.2g (%s)", r.Tensors, r.Error, r.Worst, r.WorstName)
}

// Report tells what was noted.
func (r *Rounding) Report() RoundingReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return RoundingReport{Tensors: len(r.seen), Error: math.Sqrt(r.changed / max(r.all, 1e-300)), Worst: r.worst, WorstName: r.name}
}

// scaleOffset is where, after the bytes of a weight, its scales begin.
func (e Entry) scaleOffset() int64 { return (elements(e.Shape) + alignment - 1) &^ (alignment - 1) }

// roundedRowsBytes bounds the floats of the rows that are read and rounded at a time.
const roundedRowsBytes = 64 << 20

// readRounded reads a weight and rounds it to bytes.
func (e Entry) readRounded(ctx context.Context, r Reader, name string, dst []byte) error {
	rows, k := e.Shape[0], e.Shape[1]
	step := min(rows, max(roundedRowsBytes/(4*k), 1))
	raw, values := make([]byte, 4*step*k), make([]float32, step*k)
	scales := make([]float32, rows)
	var changed, all float64
	for at := 0; at < rows; at += step {
		n := min(step, rows-at)
		if err := ReadRows(ctx, r, name, e.File, at, n, engine.F32, raw[:4*n*k]); err != nil {
			return err
		}
		numeric.F32sFromBytes(values[:n*k], raw[:4*n*k])
		c, a := ops.QuantizeWeights(dst[at*k:(at+n)*k], scales[at:at+n], values[:n*k])
		changed, all = changed+c, all+a
	}
	numeric.BytesFromF32s(dst[e.scaleOffset():], scales)
	e.rounding.note(name, changed, all)
	return nil
}
