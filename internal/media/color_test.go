package media

import (
	"math"
	"testing"

	"github.com/go-gl/mathgl/mgl64"
)

func TestTheColourMatrixIsBT709(t *testing.T) {
	m := rgbToYCbCr(bt709Red, bt709Blue)
	for _, tc := range []struct{ rgb, want mgl64.Vec3 }{
		{mgl64.Vec3{1, 1, 1}, mgl64.Vec3{1, 0, 0}},
		{mgl64.Vec3{1, 0, 0}, mgl64.Vec3{0.2126, -0.114572, 0.5}},
		{mgl64.Vec3{0, 1, 0}, mgl64.Vec3{0.7152, -0.385428, -0.454153}},
		{mgl64.Vec3{0, 0, 1}, mgl64.Vec3{0.0722, 0.5, -0.045847}},
	} {
		if got := m.Mul3x1(tc.rgb); got.Sub(tc.want).Len() > 1e-5 {
			t.Errorf("%v gives %v, want %v", tc.rgb, got, tc.want)
		}
	}
}

func TestYUVMatchesFloatingPoint(t *testing.T) {
	im := noiseClip(1, 8, 10).Frame(0)
	got := make([]uint8, 8*10*3/2)
	m := rgbToYCbCr(bt709Red, bt709Blue)
	newYUVTables(m).yuv420(got, im)
	at := func(y, x int) mgl64.Vec3 {
		p := im.Pix[3*(10*y+max(x, 0)):]
		return m.Mul3x1(mgl64.Vec3{float64(p[0]) / 255, float64(p[1]) / 255, float64(p[2]) / 255})
	}
	near := func(got uint8, want float64) bool { return math.Abs(float64(got)-want) < 0.51 }
	for y := range 8 {
		for x := range 10 {
			if want := 16 + 219*at(y, x)[0]; !near(got[10*y+x], want) {
				t.Errorf("luma %d, %d: %d, want %.2f", y, x, got[10*y+x], want)
			}
		}
	}
	for i := range 4 {
		for j := range 5 {
			sum := mgl64.Vec3{}
			for _, y := range []int{2 * i, 2*i + 1} {
				sum = sum.Add(at(y, 2*j-1)).Add(at(y, 2*j).Mul(2)).Add(at(y, 2*j+1))
			}
			for c, plane := range [][]uint8{got[80:100], got[100:]} {
				if want := 128 + 224*sum[c+1]/8; !near(plane[5*i+j], want) {
					t.Errorf("chroma %d at %d, %d: %d, want %.2f", c, i, j, plane[5*i+j], want)
				}
			}
		}
	}
}
