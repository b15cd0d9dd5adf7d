package media

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestBicubicOfAConstantPicture(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		im := NewImage(1+r.IntN(40), 1+r.IntN(40))
		level := uint8(r.IntN(256))
		for k := range im.Pix {
			im.Pix[k] = level
		}
		height, width := 1+r.IntN(60), 1+r.IntN(60)
		out := ResizeBicubicAntialias(im, height, width)
		if out.Height != height || out.Width != width || len(out.Pix) != 3*height*width {
			t.Fatalf("a picture of %d×%d, want %d×%d", out.Height, out.Width, height, width)
		}
		for _, v := range out.Pix {
			// Rounded weights add up to one but for a few units of 2^-14.
			if math.Abs(float64(v)-float64(level)) > 1 {
				t.Fatalf("%d×%d to %d×%d: level %d became %d", im.Height, im.Width, height, width, level, v)
			}
		}
	}
}

func TestBicubicAtEqualSizeIsTheSamePicture(t *testing.T) {
	im := noise(17, 29)
	if out := ResizeBicubicAntialias(im, 17, 29); !bytes.Equal(out.Pix, im.Pix) {
		t.Error("the picture changed")
	}
}

// noise is a picture of random levels.
func noise(height, width int) *Image {
	r := rand.New(rand.NewPCG(uint64(height), uint64(width)))
	im := NewImage(height, width)
	for k := range im.Pix {
		im.Pix[k] = uint8(r.IntN(256))
	}
	return im
}

func TestBicubicKeepsARampAwayFromTheEdges(t *testing.T) {
	for _, width := range []int{17, 32, 50, 96, 128} {
		im := NewImage(1, 64)
		for x := range 64 {
			for c := range 3 {
				im.Pix[3*x+c] = uint8(4 * x)
			}
		}
		out := ResizeBicubicAntialias(im, 1, width)
		scale := 64 / float64(width)
		edge := int(math.Ceil(2 * max(scale, 1) / scale))
		for x := edge; x < width-edge; x++ {
			want := 4 * (scale*(float64(x)+0.5) - 0.5)
			// The smoothed cubic filter is not exact for ramps where samples fall between: at most half a step of the ramp.
			if got := float64(out.Pix[3*x]); math.Abs(got-want) > 1.5 {
				t.Errorf("width %d: sample %d is %g, want %.2f", width, x, got, want)
			}
		}
	}
}

func TestBicubicBySmallCasesWorkedOutByHand(t *testing.T) {
	row := func(levels ...uint8) *Image {
		im := NewImage(1, len(levels))
		for x, v := range levels {
			im.Pix[3*x], im.Pix[3*x+1], im.Pix[3*x+2] = v, v, v
		}
		return im
	}
	for _, c := range []struct {
		in   *Image
		want []uint8
	}{
		// Twice the size: the kernel at distances 1/4, 3/4 and 5/4 is 111/128, 29/128 and −9/128. The first sample has 111
		// and −9 of 102 parts: −18, clipped. The second has 111 and 29 of 140 parts: 41.4. Then the same the other way
		// round: 158.6 and 217.6.
		{row(0, 200), []uint8{0, 41, 159, 218}},
		{row(100), []uint8{100, 100, 100}},
	} {
		out := ResizeBicubicAntialias(c.in, 1, len(c.want))
		got := make([]uint8, len(c.want))
		for x := range got {
			got[x] = out.Pix[3*x]
		}
		if !bytes.Equal(got, c.want) {
			t.Errorf("%v became %v, want %v", c.in.Pix, got, c.want)
		}
	}
}

// TestBicubicIsNearTheFilterInFloats compares with the same filter in fp64, rounded after each pass: integer weights are
// off by half of 2^-14 each, of at most 255 levels.
func TestBicubicIsNearTheFilterInFloats(t *testing.T) {
	for _, s := range [][4]int{{20, 31, 28, 28}, {64, 48, 28, 56}, {9, 70, 28, 84}, {100, 3, 28, 28}} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			im := noise(s[0], s[1])
			got, want := ResizeBicubicAntialias(im, s[2], s[3]), floatBicubic(im, s[2], s[3])
			differ := 0
			for k := range want {
				if d := math.Abs(float64(got.Pix[k]) - want[k]); d > 1 {
					t.Fatalf("sample %d is %d, want %g", k, got.Pix[k], want[k])
				} else if d > 0 {
					differ++
				}
			}
			if differ > len(want)/50 {
				t.Errorf("%d of %d samples differ by one level", differ, len(want))
			}
		})
	}
}

func floatBicubic(im *Image, height, width int) []float64 {
	level := func(v float64) float64 { return math.Floor(min(max(v, 0), 255) + 0.5) }
	weight := func(in, out, i, j int) float64 {
		scale := float64(in) / float64(out)
		x := math.Abs((float64(j) + 0.5 - scale*(float64(i)+0.5)) / max(scale, 1))
		switch {
		case x < 1:
			return 1.5*x*x*x - 2.5*x*x + 1
		case x < 2:
			return -0.5*x*x*x + 2.5*x*x - 4*x + 2
		}
		return 0
	}
	along := func(in, out, i int, sample func(j int) float64) float64 {
		var sum, total float64
		for j := range in {
			w := weight(in, out, i, j)
			sum, total = sum+w*sample(j), total+w
		}
		return level(sum / total)
	}
	wide := make([]float64, im.Height*width*3)
	for k := range wide {
		y, x, c := k/3/width, k/3%width, k%3
		wide[k] = along(im.Width, width, x, func(j int) float64 { return float64(im.Pix[3*(y*im.Width+j)+c]) })
	}
	out := make([]float64, height*width*3)
	for k := range out {
		y, x, c := k/3/width, k/3%width, k%3
		out[k] = along(im.Height, height, y, func(j int) float64 { return wide[3*(j*width+x)+c] })
	}
	return out
}

// TestBicubicIsBitEqualToTheReference has pictures that PyTorch resized (testdata/bicubic.py).
func TestBicubicIsBitEqualToTheReference(t *testing.T) {
	f, err := weights.Open("testdata/bicubic.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := len(f.Names()) / 2
	for k := range cases {
		in, want := fromPlanes(t, f, fmt.Sprintf("%d.in", k)), fromPlanes(t, f, fmt.Sprintf("%d.out", k))
		got, wrong, most := ResizeBicubicAntialias(in, want.Height, want.Width), 0, 0
		for j, w := range want.Pix {
			if off := max(int(got.Pix[j])-int(w), int(w)-int(got.Pix[j])); off > 0 {
				wrong, most = wrong+1, max(most, off)
			}
		}
		if wrong > 0 {
			t.Errorf("%d×%d to %d×%d: %d of %d samples differ, by up to %d", in.Height, in.Width, want.Height, want.Width, wrong, len(want.Pix), most)
		}
	}
	if cases != 6 {
		t.Errorf("%d cases, want 6", cases)
	}
}
