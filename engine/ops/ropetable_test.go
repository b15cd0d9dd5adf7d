package ops_test

import (
	"math"
	"slices"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/ops"
)

// angleError bounds float32's error of an angle of φ radians and of its cosine: the exponent of a frequency, at most 9.3,
// is rounded three times, the frequency, the product and the quotient once each.
func angleError(phi float64) float64 { return math.Abs(phi)*(3*9.3+3)*0x1p-24 + 0x1p-24 }

// checkTable compares a table with angles computed in float64.
func checkTable(t *testing.T, table ops.RopeTable, tokens, pairs int, angle func(token, pair int) float64) {
	t.Helper()
	if table.Tokens != tokens || table.Pairs != pairs || len(table.CosSin) != 2*tokens*pairs {
		t.Fatalf("table of %d tokens, %d pairs, %d numbers, want %d, %d", table.Tokens, table.Pairs, len(table.CosSin), tokens, pairs)
	}
	for n := range tokens {
		for j := range pairs {
			phi := angle(n, j)
			tol := angleError(phi)
			sin, cos := math.Sincos(phi)
			at := 2 * (n*pairs + j)
			if c, s := float64(table.CosSin[at]), float64(table.CosSin[at+1]); !(math.Abs(c-cos) <= tol && math.Abs(s-sin) <= tol) {
				t.Fatalf("token %d, pair %d: (%v, %v), want (%v, %v) ± %v", n, j, c, s, cos, sin, tol)
			}
		}
	}
}

func theta(base float64, k, n int) float64 { return math.Pow(base, -float64(k)/float64(n)) }

func TestTextRopeTableTurnsByPosition(t *testing.T) {
	checkTable(t, ops.TextRopeTable(300, 128), 300, 64, func(n, j int) float64 { return float64(n) * theta(10000, j, 64) })
}

func TestVisualRopeTableSplitsPairsOverAxes(t *testing.T) {
	grid, axes, scale := [3]int{5, 6, 7}, [3]int{16, 24, 24}, [3]float32{1, 2, 3.16}
	checkTable(t, ops.VisualRopeTable(grid, axes, scale), 210, 32, func(n, j int) float64 {
		switch {
		case j < 8:
			return float64(n/42) * theta(10000, j, 8)
		case j < 20:
			return float64(n/7%6) * theta(10000, j-8, 12) / 2
		}
		return float64(n%7) * theta(10000, j-20, 12) / float64(float32(3.16))
	})
}

func TestMultimodalRopeTableTakesEachSectionsPosition(t *testing.T) {
	positions := [][3]int{{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {2, 2, 3}, {2, 3, 2}, {2, 3, 3}, {4, 4, 4}}
	checkTable(t, ops.MultimodalRopeTable(positions, 128, 1e6, [3]int{16, 24, 24}), 7, 64, func(n, j int) float64 {
		axis := 0
		if j >= 16 {
			axis = 1
		}
		if j >= 40 {
			axis = 2
		}
		return float64(positions[n][axis]) * theta(1e6, j, 64)
	})
}

func TestVisionRopeTableTakesRowsThenColumns(t *testing.T) {
	places := [][2]int{{0, 0}, {0, 1}, {1, 0}, {17, 53}}
	checkTable(t, ops.VisionRopeTable(places, 80), 4, 40, func(n, j int) float64 {
		return float64(places[n][j/20]) * theta(10000, j%20, 20)
	})
}

func TestRopeTableRowsCanBePermutedSlicedAndRounded(t *testing.T) {
	table := ops.TextRopeTable(6, 8)
	if got := table.Permute([]int{5, 0}).CosSin; !slices.Equal(got, append(slices.Clone(table.CosSin[40:]), table.CosSin[:8]...)) {
		t.Errorf("permuted rows are %v", got)
	}
	if got := table.Rows(2, 4); got.Tokens != 2 || !slices.Equal(got.CosSin, table.CosSin[16:32]) {
		t.Errorf("rows 2 to 4 are %v", got)
	}
	if table.CosSin[8] == float32(0.5390625) || table.RoundBF16().CosSin[8] != float32(0.5390625) { // cos 1 = 0.5403
		t.Errorf("cos 1 is %v and rounds to %v", table.CosSin[8], table.RoundBF16().CosSin[8])
	}
}

func TestFractalOrderKeepsPatchesTogether(t *testing.T) {
	order := ops.FractalOrder([3]int{2, 16, 24})
	seen := make([]bool, 2*16*24)
	for n, token := range order {
		if seen[token] {
			t.Fatalf("token %d comes twice", token)
		}
		seen[token] = true
		frame, row, column := token/384, token/24%16, token%24
		block := (frame*2+row/8)*3 + column/8
		if want := block*64 + row%8*8 + column%8; want != n {
			t.Fatalf("token %d (%d, %d, %d) is at %d, want %d", token, frame, row, column, n, want)
		}
	}
	if len(order) != len(seen) {
		t.Fatalf("%d tokens, want %d", len(order), len(seen))
	}
	mustPanic(t, "a width of 12 tokens", func() { ops.FractalOrder([3]int{1, 8, 12}) })
}

func TestTimeEmbeddingHasCosinesThenSines(t *testing.T) {
	e := ops.TimeEmbedding(987.5, 64)
	for k := range 32 {
		phi := 987.5 * theta(10000, k, 32)
		if !(math.Abs(float64(e[k])-math.Cos(phi)) <= angleError(phi)) || !(math.Abs(float64(e[32+k])-math.Sin(phi)) <= angleError(phi)) {
			t.Errorf("frequency %d: (%v, %v), want (%v, %v)", k, e[k], e[32+k], math.Cos(phi), math.Sin(phi))
		}
	}
}
