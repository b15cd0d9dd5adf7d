package ops

import (
	"context"
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// RopeTable holds the rotation of every token and pair of elements: cos and sin of pair j of token t are elements
// (t·Pairs + j)·2 and the one after it. Angles, cos and sin are computed in float32 step by step as the reference
// implementations do, because angles of hundreds of radians carry float32's rounding visibly.
type RopeTable struct {
	Tokens, Pairs int
	CosSin        []float32 // [Tokens, Pairs, 2]
}

// newRopeTable turns angles [tokens, pairs] into a table.
func newRopeTable(tokens, pairs int, angle func(token, pair int) float32) RopeTable {
	t := RopeTable{tokens, pairs, make([]float32, 0, 2*tokens*pairs)}
	for n := range tokens {
		for j := range pairs {
			sin, cos := math.Sincos(float64(angle(n, j)))
			t.CosSin = append(t.CosSin, float32(cos), float32(sin))
		}
	}
	return t
}

// Frequencies returns exp(−ln(10000)·k/n) for k < n, in float32 (kandinsky-5, kandinsky/models/utils.py, get_freqs).
func Frequencies(n int) []float32 {
	out := make([]float32, n)
	factor := float32(-math.Log(10000))
	for k := range out {
		product := float32(factor * float32(k))
		out[k] = float32(math.Exp(float64(product / float32(n))))
	}
	return out
}

// inverseFrequencies returns 1 / θ^(2k/dim) for k < dim/2, in float32 (huggingface/transformers,
// models/qwen2_5_vl/modeling_qwen2_5_vl.py).
func inverseFrequencies(dim int, theta float64) []float32 {
	out := make([]float32, dim/2)
	for k := range out {
		exponent := float32(2*k) / float32(dim)
		out[k] = 1 / float32(math.Pow(theta, float64(exponent)))
	}
	return out
}

// TextRopeTable is Kandinsky 5's table for text: token n stands at position n (kandinsky-5, kandinsky/models/nn.py,
// RoPE1D). headDim is even.
func TextRopeTable(tokens, headDim int) RopeTable {
	f := Frequencies(headDim / 2)
	return newRopeTable(tokens, headDim/2, func(n, j int) float32 { return float32(n) * f[j] })
}

// VisualRopeTable is Kandinsky 5's table for a grid of frames × rows × columns of tokens, row-major. The pairs of a head
// are split into axes[0]/2, axes[1]/2 and axes[2]/2 for time, row and column; the angles of an axis are divided by
// its scale (kandinsky-5, kandinsky/models/nn.py, RoPE3D).
func VisualRopeTable(grid, axes [3]int, scale [3]float32) RopeTable {
	var angles [3][]float32 // by axis: [position, pair]
	pairs := 0
	for a, dim := range axes {
		for n := range grid[a] {
			for _, f := range Frequencies(dim / 2) {
				angles[a] = append(angles[a], float32(float32(n)*f)/scale[a])
			}
		}
		pairs += dim / 2
	}
	t := RopeTable{grid[0] * grid[1] * grid[2], pairs, nil}
	t.CosSin = make([]float32, 0, 2*t.Tokens*pairs)
	var parts [3][]float32 // cos and sin, by axis
	for a := range axes {
		parts[a] = newRopeTable(grid[a], axes[a]/2, func(n, j int) float32 { return angles[a][n*axes[a]/2+j] }).CosSin
	}
	for n := range t.Tokens {
		place := [3]int{n / (grid[1] * grid[2]), n / grid[2] % grid[1], n % grid[2]}
		for a, p := range place {
			t.CosSin = append(t.CosSin, parts[a][p*axes[a]:(p+1)*axes[a]]...)
		}
	}
	return t
}

// MultimodalRopeTable is Qwen2.5-VL's table for text and image tokens: positions holds each token's (temporal, height,
// width), and sections says how many pairs follow each of them, in this order; together they are headDim/2. For text
// the three positions are equal. Split pairs.
func MultimodalRopeTable(positions [][3]int, headDim int, theta float64, sections [3]int) RopeTable {
	if 2*(sections[0]+sections[1]+sections[2]) != headDim {
		panic(fmt.Sprintf("ops.MultimodalRopeTable: sections %v of %d elements", sections, headDim))
	}
	f := inverseFrequencies(headDim, theta)
	axis := make([]int, 0, headDim/2)
	for a, n := range sections {
		for range n {
			axis = append(axis, a)
		}
	}
	return newRopeTable(len(positions), headDim/2, func(n, j int) float32 { return float32(positions[n][axis[j]]) * f[j] })
}

// VisionRopeTable is the table of Qwen2.5-VL's vision tower: the first half of the pairs follows the patch's row, the
// second its column. places holds (row, column) of each patch in the order of the tokens. headDim is a multiple of 4.
// Split pairs.
func VisionRopeTable(places [][2]int, headDim int) RopeTable {
	f := inverseFrequencies(headDim/2, 10000)
	return newRopeTable(len(places), headDim/2, func(n, j int) float32 { return float32(places[n][j/len(f)]) * f[j%len(f)] })
}

// RoundBF16 returns the table with cos and sin rounded to bfloat16, as Qwen2.5-VL has them when it runs in that type.
func (t RopeTable) RoundBF16() RopeTable {
	out := RopeTable{t.Tokens, t.Pairs, make([]float32, len(t.CosSin))}
	for i, v := range t.CosSin {
		out.CosSin[i] = numeric.RoundBF16(v)
	}
	return out
}

// Permute returns the table whose row n is this one's row order[n].
func (t RopeTable) Permute(order []int) RopeTable {
	row := 2 * t.Pairs
	out := RopeTable{len(order), t.Pairs, make([]float32, 0, len(order)*row)}
	for _, n := range order {
		out.CosSin = append(out.CosSin, t.CosSin[n*row:(n+1)*row]...)
	}
	return out
}

// Rows returns the rows [from, to) of the table, sharing its memory.
func (t RopeTable) Rows(from, to int) RopeTable {
	return RopeTable{to - from, t.Pairs, t.CosSin[2*from*t.Pairs : 2*to*t.Pairs]}
}

// Upload allocates f32 [Tokens, Pairs, 2] from the arena and fills it. It waits for the copy.
func (t RopeTable) Upload(ctx context.Context, d *engine.Device, arena *engine.Arena, label string) (engine.Tensor, error) {
	out := arena.Alloc(label, engine.F32, t.Tokens, t.Pairs, 2)
	if err := arena.Err(); err != nil {
		return engine.Tensor{}, fmt.Errorf("rope table: %w", err)
	}
	return out, d.UploadF32(ctx, out, t.CosSin)
}

// FractalOrder lists, in NABLA's token order, the row-major numbers of the tokens of a grid of frames × rows × columns:
// every 8×8 patch of one frame is 64 consecutive tokens. Rows and columns are multiples of 8 (kandinsky-5,
// kandinsky/models/utils.py, fractal_flatten).
func FractalOrder(grid [3]int) []int {
	if grid[1]%8 != 0 || grid[2]%8 != 0 {
		panic(fmt.Sprintf("ops.FractalOrder: %d rows and %d columns of tokens are no multiples of 8", grid[1], grid[2]))
	}
	out := make([]int, 0, grid[0]*grid[1]*grid[2])
	for t := range grid[0] {
		for y := 0; y < grid[1]; y += 8 {
			for x := 0; x < grid[2]; x += 8 {
				for i := range 64 {
					out = append(out, (t*grid[1]+y+i/8)*grid[2]+x+i%8)
				}
			}
		}
	}
	return out
}

// TimeEmbedding returns the sinusoids of time τ (1000 at pure noise): dim/2 cosines of τ·Frequencies, then as many
// sines, in float32 (kandinsky-5, kandinsky/models/nn.py, TimeEmbeddings).
func TimeEmbedding(time float32, dim int) []float32 {
	out := make([]float32, dim)
	for k, f := range Frequencies(dim / 2) {
		sin, cos := math.Sincos(float64(float32(time * f)))
		out[k], out[dim/2+k] = float32(cos), float32(sin)
	}
	return out
}
