package ops

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/ref"
)

func openMatrices(t *testing.T) *engine.Device {
	t.Helper()
	d := enginetest.Open(t)
	if c := d.Caps(); c.Tier < engine.TierMatrix {
		t.Skipf("the device runs tier %v: %s", c.Tier, d.Summary.TierWhy)
	}
	return d
}

// Tiles that drivers which emulate matrices compile in seconds too. Between them: one and several matrices per subgroup in
// either direction, one and several subgroups in either direction, loads ahead and not.
var (
	smallMatrixTiles = []matrixTile{
		smallMatrixTile,
		{m: 32, n: 16, k: 32, subM: 16, subN: 16},
		{m: 16, n: 64, k: 16, subM: 16, subN: 16, ahead: true},
		{m: 32, n: 32, k: 32, subM: 16, subN: 16, ahead: true},
		{m: 32, n: 32, k: 16, subM: 32, subN: 16},
	}
	smallAttentionTiles = map[int][]attentionMatrixTile{ // by channels
		64:  {smallAttentionMatrixTile, {subsM: 1, subsN: 2, fragsQ: 1, keys: 32}, {subsM: 2, subsN: 2, fragsQ: 1, keys: 32}},
		128: {smallAttentionMatrixTile},
	}
	smallFlexibleTiles = map[int][]attentionFlexible{
		64:  {smallAttentionFlexible, {subs: 4, keys: 32}},
		128: {smallAttentionFlexible},
	}
)

func TestMatmulByMatricesAgreesWithFloat64InEveryTile(t *testing.T) {
	d := openMatrices(t)
	for _, dt := range matrixRounds(d) {
		checkMatrixLayer(t, d, matrixCheck{name: "plain", dt: dt, k: 96, tiles: smallMatrixTiles})
		checkMatrixLayer(t, d, matrixCheck{name: "with a rest of k", dt: dt, k: 104, tiles: smallMatrixTiles})
	}
	few := smallMatrixTiles[:1]
	checkMatrixLayer(t, d, matrixCheck{name: "GELU", dt: engine.F16, k: 72, activation: GELU, tiles: few})
	checkMatrixLayer(t, d, matrixCheck{name: "gated residual", dt: engine.F16, k: 72, gated: true, tiles: few})
	checkMatrixLayer(t, d, matrixCheck{name: "heads", dt: engine.F16, k: 72, head: 100, tiles: few})
}

// Bands decide only which workgroup computes which tile: of one row tile, of some with a lower one left over, of all, and
// higher than the dispatch.
func TestMatmulByMatricesGivesTheSameBitsInBandsOfAnyHeight(t *testing.T) {
	d := openMatrices(t)
	const m, n, k = 150, 140, 64 // 5 × 5 of the smallest tiles
	arena := d.NewArena("bands")
	defer arena.Release()
	rng := rand.New(rand.NewPCG(1, 2))
	x, xs := attentionInput(t, arena, d, rng, engine.F16, 1, m, k)
	w, ws := attentionInput(t, arena, d, rng, engine.F16, 1, n, k)
	y := arena.Alloc("y", engine.F32, m, n)
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	layer, ok := MatmulArgs{X: x, W: w, Y: y, Half: true}.candidate(d.Caps(), smallMatrixTile)
	if !ok {
		t.Fatal("the smallest tile does not fit")
	}
	want := ref.Matmul(xs, ws, nil, m, n, k)
	var first []float64
	for _, band := range []int{0, 1, 2, 3, 5, 9} {
		layer.band = band
		d.Compute().Fill(y, 0x7fc00000)
		layer.record(d.Compute())
		got := attentionDownload(t, d, y)
		if first == nil {
			first = got
		}
		for i, v := range got {
			// 64 products of deviation 1: their magnitudes add up to about 41, each addition errs by 2⁻²³ of that at most.
			if !(math.Abs(v-want[i]) <= k*41*0x1p-23) || v != first[i] {
				t.Fatalf("bands of %d row tiles: element %d is %g, want %g and the bits of %g", band, i, v, want[i], first[i])
			}
		}
	}
}

func TestBandsAreEvenAndHoldNoMoreThanACache(t *testing.T) {
	for _, c := range []struct{ rows, rowBytes, tileM, want int }{
		{47616, 8192, 192, 31},  // 248 row tiles: 8 bands
		{47616, 32768, 192, 8},  // 7.75 row tiles would fill the cache
		{47616, 3584, 192, 31},  // more would, but were not measured
		{11904, 8192, 192, 31},  // 62: 2 bands
		{6144, 8192, 192, 16},   // 32: 16 and 16, not 31 and 1
		{100, 8192, 192, 1},     // one row tile
		{410, 131072, 32, 7},    // 13: 7 and 6
		{47616, 1 << 30, 32, 8}, // long rows
	} {
		if got := bandTiles(c.rows, c.rowBytes, c.tileM); got != c.want {
			t.Errorf("%d rows of %d bytes in tiles of %d: bands of %d row tiles, want %d", c.rows, c.rowBytes, c.tileM, got, c.want)
		}
	}
}

// peak raises the score of some queries for some keys by a factor of 9 for each of strength: with 8 in the first channel
// of such a query and 9√dim/8 times the strength in that of a key, numbers that 16 bits hold, and 0 elsewhere.
type peak struct {
	name string
	// query tells which queries take part, by number and by the 8 queries that any matrix holds at least.
	query func(i int) bool
	keys  map[int]float32
}

var peaks = []peak{
	{"odd groups of 8 queries", func(i int) bool { return i/8%2 == 1 }, map[int]float32{37: 1, 70: 2, 101: 3}},
	{"odd groups of 16 queries", func(i int) bool { return i/16%2 == 1 }, map[int]float32{40: 1, 71: 2}},
	{"odd groups of 32 queries", func(i int) bool { return i/32%2 == 1 }, map[int]float32{35: 1, 111: 2}},
	{"even groups of 8 queries, the last key", func(i int) bool { return i/8%2 == 0 }, map[int]float32{114: 1}},
	{"a single query", func(i int) bool { return i == 19 }, map[int]float32{50: 1, 51: 2, 83: 3}},
	{"every third query, neighbouring tiles", func(i int) bool { return i%3 == 0 }, map[int]float32{47: 1, 48: 2, 64: 3, 80: 4}},
	{"the first key, nothing later", func(i int) bool { return i%2 == 0 }, map[int]float32{0: 3}},
}

// A raise of the running shift concerns some subgroups and not others: those that look at other queries, and those that
// look at other keys of the same queries. A score of 9 is 13 powers of two, more than a shift may lag behind, and little
// enough for what came before it, some 5% of the result, to show when it is rescaled wrongly.
func TestAttentionByMatricesRaisesTheShiftOfSomeSubgroups(t *testing.T) {
	d := openMatrices(t)
	const tq, tk = 70, 115
	for _, dt := range matrixRounds(d) {
		for _, dim := range []int{64, 128} {
			arena := d.NewArena("shifts")
			defer arena.Release()
			rng := rand.New(rand.NewPCG(21, uint64(dim)))
			c := newAttentionCase(t, arena, d, rng, attentionShape{heads: 1, tq: tq, tk: tk, dim: dim, q: dt, k: dt, v: dt})
			c.args.Half = true
			guarded := make([]float32, len(c.before))
			for i, v := range c.before {
				guarded[i] = float32(v)
			}
			for _, way := range attentionWays(smallFlexibleTiles[dim], smallAttentionTiles[dim]) {
				z, k, ok := way.plan(c.args, d.Caps())
				if !ok {
					t.Logf("%v, %d channels: %s does not fit", dt, dim, way.name)
					continue
				}
				for _, p := range peaks {
					t.Run(fmt.Sprintf("%v, %d channels, %s, %s", dt, dim, way.name, p.name), func(t *testing.T) {
						c.ref.Q = firstChannel(t, d, c.args.Q, c.ref.Q, func(i int) float32 {
							if p.query(i) {
								return 8
							}
							return 0
						})
						strength := map[int]float32{64: 9, 128: 13}[dim] // 9√dim/8
						c.ref.K = firstChannel(t, d, c.args.K, c.ref.K, func(j int) float32 { return strength * p.keys[j] })
						if err := d.UploadF32(t.Context(), c.guarded, guarded); err != nil {
							t.Fatal(err)
						}
						c.args.record(d.Compute(), z, k)
						c.check(t, d)
					})
				}
			}
		}
	}
}

// firstChannel sets the first channel of every token and returns what the tensor then holds.
func firstChannel(t *testing.T, d *engine.Device, x engine.Tensor, values []float64, to func(token int) float32) []float64 {
	t.Helper()
	f := make([]float32, len(values))
	for i, v := range values {
		f[i] = float32(v)
		if i%x.Dim(2) == 0 {
			f[i] = to(i / x.Dim(2))
		}
	}
	if err := d.UploadF32(t.Context(), x, f); err != nil {
		t.Fatal(err)
	}
	return attentionDownload(t, d, x)
}
