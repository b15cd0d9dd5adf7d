package ops

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

func TestChooseTileFitsTheSmallestVulkanDevice(t *testing.T) {
	caps := engine.Caps{MaxInvocations: 128, MaxSharedBytes: 16 << 10}
	for _, half := range []bool{false, true} {
		for _, size := range [][2]int{{9, 9}, {4096, 3}, {4096, 24}, {4096, 4096}} {
			tile := chooseTile(caps, size[0], size[1], half)
			if tile.invocations() > 128 || tile.sharedBytes(half) > 16<<10 {
				t.Errorf("%v, half %v: tile %v takes %d invocations and %d bytes", size, half, tile, tile.invocations(), tile.sharedBytes(half))
			}
		}
	}
}

// Every tile that some device may use gives the same bits, so that what is true of one is true of all.
func TestEveryTileGivesTheSameBits(t *testing.T) {
	dev := enginetest.Open(t)
	const m, n, k = 150, 140, 52
	arena := dev.NewArena("test")
	defer arena.Release()
	x, w := arena.Alloc("x", engine.BF16, m, k), arena.Alloc("w", engine.BF16, n, k)
	y := arena.Alloc("y", engine.F32, m, n)
	if err := arena.Err(); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, operand := range []engine.Tensor{x, w} {
		values := make([]float32, operand.Elems())
		for i := range values {
			values[i] = float32(rng.NormFloat64())
		}
		if err := dev.UploadF32(t.Context(), operand, values); err != nil {
			t.Fatal(err)
		}
	}
	tiles := []gemmTile{{64, 64, 8, 8, 4}, {64, 64, 16, 8, 4}, {128, 32, 16, 8, 4}, {128, 16, 16, 8, 4}, {128, 128, 16, 8, 8}}
	for _, half := range []bool{false, true} {
		if half && !dev.Caps().HasFloat16 {
			continue
		}
		var want []float32
		for _, tile := range tiles {
			t.Run(fmt.Sprintf("%v half %v", tile, half), func(t *testing.T) {
				layer := MatmulArgs{X: x, W: w, Y: y, Half: half}.check()
				layer.plan(dev.Caps())
				layer.tile = tile
				dev.Compute().Fill(y, 0x7fc00000)
				dev.Compute().Dispatch(layer.call(dev.Caps(), 0, m, 0, n))
				got, err := dev.DownloadF32(t.Context(), y)
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				}
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("element %d is %v, with tile %v it was %v", i, got[i], tiles[0], want[i])
					}
				}
			})
		}
	}
}
