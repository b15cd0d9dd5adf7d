package media

import (
	"image/gif"
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestGIFKeepsTimeAndColours(t *testing.T) {
	clip := patchClip(24)
	path := filepath.Join(t.TempDir(), "x.gif")
	if err := WriteVideo(t.Context(), path, clip, 24, VideoOptions{}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := gif.DecodeAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Image) != 24 || g.LoopCount != 0 {
		t.Fatalf("%d frames, loop count %d", len(g.Image), g.LoopCount)
	}
	total := 0
	got := NewClip(clip.Frames, clip.Height, clip.Width)
	for i, m := range g.Image {
		total += g.Delay[i]
		if g.Delay[i] != 4 && g.Delay[i] != 5 {
			t.Errorf("frame %d lasts %d hundredths", i, g.Delay[i])
		}
		im, err := toRGB(m, "GIF")
		if err != nil {
			t.Fatal(err)
		}
		copy(got.Frame(i).Pix, im.Pix)
	}
	if total != 100 {
		t.Errorf("24 frames last %d hundredths of a second", total)
	}
	checkPatches(t, got, clip, 0)
}

func TestGIFOfSmoothColoursIsCloseOnAverage(t *testing.T) {
	clip := NewClip(2, 64, 64)
	for f := range 2 {
		im := clip.Frame(f)
		for i := range 64 * 64 {
			im.Pix[3*i], im.Pix[3*i+1], im.Pix[3*i+2] = uint8(i%64*4), uint8(i/64*4), uint8(128+100*f-i%64)
		}
	}
	colours := makePalette(clip)
	if len(colours) != 256 {
		t.Errorf("%d colours", len(colours))
	}
	out := dither(clip.Frame(0), colours, newLookup(colours))
	// Dithering keeps local means: compare 8×8 blocks.
	src := clip.Frame(0)
	for by := 0; by < 64; by += 8 {
		for bx := 0; bx < 64; bx += 8 {
			for c := range 3 {
				var sum int
				for y := by; y < by+8; y++ {
					for x := bx; x < bx+8; x++ {
						sum += int(src.Pix[3*(64*y+x)+c]) - int(colours[out[64*y+x]][c])
					}
				}
				if mean := math.Abs(float64(sum)) / 64; mean > 5 {
					t.Errorf("block %d, %d, channel %d is off by %.1f", by, bx, c, mean)
				}
			}
		}
	}
}
