package media

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// fromPlanes turns [3, H, W] into [H, W, 3].
func fromPlanes(t *testing.T, f *weights.File, name string) *Image {
	t.Helper()
	x, ok := f.Tensor(name)
	if !ok || len(x.Shape) != 3 || x.Shape[0] != 3 {
		t.Fatalf("tensor %s is missing or not [3, H, W]: %v", name, x.Shape)
	}
	im := NewImage(x.Shape[1], x.Shape[2])
	n := im.Height * im.Width
	for i := range n {
		for c := range 3 {
			im.Pix[3*i+c] = x.Data[c*n+i]
		}
	}
	return im
}

func TestResizeIsBitEqualToTheReference(t *testing.T) {
	f, err := weights.Open(testdata.Shared(t, "golden/resize_bilinear_antialias.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases, samples := 0, 0
	for i := 0; ; i++ {
		if _, ok := f.Tensor(fmt.Sprintf("%d.in", i)); !ok {
			break
		}
		in, want := fromPlanes(t, f, fmt.Sprintf("%d.in", i)), fromPlanes(t, f, fmt.Sprintf("%d.out", i))
		got := ResizeBilinearAntialias(in, want.Height, want.Width)
		wrong := 0
		for j := range want.Pix {
			if got.Pix[j] != want.Pix[j] {
				wrong++
			}
		}
		if wrong > 0 {
			t.Errorf("case %d, %dx%d to %dx%d: %d of %d samples differ", i, in.Height, in.Width, want.Height, want.Width, wrong, len(want.Pix))
		}
		cases, samples = cases+1, samples+len(want.Pix)
	}
	if cases != 4 || samples != 34851 {
		t.Errorf("%d cases with %d samples, want 4 with 34,851", cases, samples)
	}
}

func TestResizeToTheSameSizeChangesNothing(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	im := NewImage(9, 14)
	for i := range im.Pix {
		im.Pix[i] = uint8(rng.Uint32())
	}
	if worst, _ := largest(t, ResizeBilinearAntialias(im, 9, 14), im); worst != 0 {
		t.Errorf("differs by up to %d", worst)
	}
}

func TestResizeTakesSizesOfOnePixel(t *testing.T) {
	im := NewImage(1, 1)
	copy(im.Pix, []uint8{10, 20, 30})
	big := ResizeBilinearAntialias(im, 5, 3)
	for i := range 15 {
		if big.Pix[3*i] != 10 || big.Pix[3*i+2] != 30 {
			t.Fatalf("pixel %d: %v", i, big.Pix[3*i:3*i+3])
		}
	}
	if one := ResizeBilinearAntialias(big, 1, 1); one.Pix[1] != 20 {
		t.Errorf("got %v", one.Pix)
	}
}

// exactFMA rounds a·b + c once, in arbitrary precision.
func exactFMA(a, b, c float32) float32 {
	x := new(big.Float).SetPrec(400).SetFloat64(float64(a))
	x.Mul(x, new(big.Float).SetPrec(400).SetFloat64(float64(b)))
	x.Add(x, new(big.Float).SetPrec(400).SetFloat64(float64(c)))
	r, _ := x.Float32()
	return r
}

func TestFusedMultiplyAddRoundsOnce(t *testing.T) {
	// A sum just beside a tie of fp32: fp64 rounds it onto the tie.
	tie, almost := float32(1<<24+2), float32(math.Ldexp(1, -35))
	if got, want := fma32(1+1.0/(1<<23), 1, 0), exactFMA(1+1.0/(1<<23), 1, 0); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	doubleRounded := 0
	check := func(a, b, c float32) {
		t.Helper()
		want := exactFMA(a, b, c)
		if got := fma32(a, b, c); got != want {
			t.Fatalf("fma(%b, %b, %b) = %b, want %b", a, b, c, got, want)
		}
		if float32(math.FMA(float64(a), float64(b), float64(c))) != want {
			doubleRounded++
		}
	}
	check(tie, 1, 1)
	check(tie, 1+1.0/(1<<22), -almost)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		// Numbers with few bits and far exponents make near ties likely.
		few := func() float32 {
			return float32(math.Ldexp(float64(int32(rng.Uint32())>>uint(8+rng.IntN(16))), rng.IntN(80)-40))
		}
		check(few(), few(), few())
	}
	for k := range 60 {
		// 1 + ulp/2 ± 2^-k: a tie in fp32, broken by a term that fp64 drops once k > 53.
		check(1, 1+1.0/(1<<23), float32(math.Ldexp(1, -24)))
		check(float32(math.Ldexp(1, -12)), float32(math.Ldexp(1, -12)), 1)
		check(float32(math.Ldexp(1, -12))*(1+1.0/(1<<23)), float32(math.Ldexp(1, -12)), 1+float32(math.Ldexp(1, -23))*float32(k%2))
		check(float32(math.Ldexp(1, -12))*(1+1.0/(1<<23)), float32(math.Ldexp(1, -12))*(1-1.0/(1<<23)), 1)
	}
	if doubleRounded == 0 {
		t.Error("no case rounds twice: the test does not test")
	}
}

func TestFitSize(t *testing.T) {
	for _, tc := range []struct{ resolution, h, w, fitH, fitW int }{
		{512, 512, 768, 512, 768},
		{512, 768, 512, 768, 512},
		{512, 1024, 1024, 624, 624}, // 627.07 / 16 = 39.19
		{512, 100, 100, 624, 624},   // small pictures grow
		{512, 1080, 1920, 464, 832}, // 470.3 and 836.1
		{512, 3000, 4000, 544, 720}, // 543.06 and 724.08
		{1024, 1024, 1024, 1024, 1024},
		{1024, 1080, 1920, 768, 1408}, // 768.0 and 1365.3
		{1024, 512, 768, 896, 1280},   // 836.1 and 1254.1
		{1024, 100, 300, 640, 1792},   // 591.2 and 1773.6
		{128, 128, 128, 128, 128},
		{128, 480, 640, 112, 144}, // 110.9 and 147.8
		{128, 64, 64, 128, 128},   // small pictures grow
		{64, 1, 2, 48, 96},        // 45.3 and 90.5
	} {
		h, w, err := FitSize(tc.resolution, tc.h, tc.w)
		if err != nil || h != tc.fitH || w != tc.fitW {
			t.Errorf("resolution %d, %dx%d: %dx%d, %v; want %dx%d", tc.resolution, tc.h, tc.w, h, w, err, tc.fitH, tc.fitW)
		}
	}
	for _, tc := range [][3]int{{512, 1, 10000}, {1024, 10000, 1}, {512, 100, 1300}, {512, 0, 5}, {512, 5, -1}, {128, 1, 300}} {
		if h, w, err := FitSize(tc[0], tc[1], tc[2]); err == nil {
			t.Errorf("%v was fitted to %dx%d", tc, h, w)
		}
	}
}

func TestFitImage(t *testing.T) {
	im := NewImage(512, 768)
	if got, err := FitImage(im, 512); err != nil || got != im {
		t.Errorf("a picture of the right size was copied: %v", err)
	}
	got, err := FitImage(NewImage(20, 30), 512)
	if err != nil || got.Height != 512 || got.Width != 768 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := FitImage(NewImage(1, 5000), 1024); err == nil {
		t.Error("a line was fitted")
	}
}
