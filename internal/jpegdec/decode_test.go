package jpegdec

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"os"
	"testing"
)

// TestSamplesAreNearGoDecoders compares planes with those of Go's decoder, whose transform rounds otherwise.
func TestSamplesAreNearGoDecoders(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []image.Point{{1, 1}, {8, 8}, {37, 53}, {64, 16}} {
		m := image.NewRGBA(image.Rectangle{Max: size})
		for k := range m.Pix {
			m.Pix[k] = uint8(k/7) ^ uint8(r.IntN(40))
		}
		for _, quality := range []int{5, 80, 100} {
			var file bytes.Buffer
			if err := jpeg.Encode(&file, m, &jpeg.Options{Quality: quality}); err != nil {
				t.Fatal(err)
			}
			got, err := Decode(file.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			want, err := jpeg.Decode(&file)
			if err != nil {
				t.Fatal(err)
			}
			a, b := got.(*image.YCbCr), want.(*image.YCbCr)
			if a.Rect != b.Rect || a.SubsampleRatio != b.SubsampleRatio {
				t.Fatalf("%v %v, want %v %v", a.Rect, a.SubsampleRatio, b.Rect, b.SubsampleRatio)
			}
			for y := range size.Y {
				for x := range size.X {
					if off := int(a.Y[a.YOffset(x, y)]) - int(b.Y[b.YOffset(x, y)]); off < -1 || off > 1 {
						t.Fatalf("%v, quality %d: luma at %d, %d is off by %d", size, quality, x, y, off)
					}
					if off := int(a.Cb[a.COffset(x, y)]) - int(b.Cb[b.COffset(x, y)]); off < -1 || off > 1 {
						t.Fatalf("%v, quality %d: chroma at %d, %d is off by %d", size, quality, x, y, off)
					}
				}
			}
		}
	}
}

// TestTransformOfSingleCoefficients: a block of a DC alone is flat, and no coefficient leaves the range of samples.
func TestTransformOfSingleCoefficients(t *testing.T) {
	for dc := int32(-1024); dc <= 1024; dc += 8 {
		var out [64]uint8
		idct(out[:], 8, &[64]int32{0: dc})
		for _, v := range out {
			if want := min(max(dc/8+128, 0), 255); int32(v) != want {
				t.Fatalf("DC %d gives %d, want %d", dc, v, want)
			}
		}
	}
}

func TestOtherKindsAreLeftToOthers(t *testing.T) {
	cmyk, err := os.ReadFile("../media/testdata/cmyk.jpg")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decode(cmyk); !errors.Is(err, ErrUnsupported) {
		t.Errorf("CMYK: %v", err)
	}
	var file bytes.Buffer
	if err := jpeg.Encode(&file, image.NewGray(image.Rect(0, 0, 9, 9)), nil); err != nil {
		t.Fatal(err)
	}
	whole := file.Bytes()
	if m, err := Decode(whole); err != nil || m.At(8, 8) != (color.Gray{}) {
		t.Errorf("grey: %v", err)
	}
	arithmetic := bytes.Replace(whole, []byte{0xff, mSOF0}, []byte{0xff, 0xc9}, 1)
	if _, err := Decode(arithmetic); !errors.Is(err, ErrUnsupported) {
		t.Errorf("arithmetic coding: %v", err)
	}
	for n := range whole {
		if _, err := Decode(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes are enough", n, len(whole))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, name := range []string{"j420.jpg", "j422.jpg", "jprog.jpg", "cmyk.jpg"} {
		data, err := os.ReadFile("../media/testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := jpeg.DecodeConfig(bytes.NewReader(data)); err != nil || c.Width*c.Height > 1<<16 {
			return // callers look at the size first
		}
		if m, err := Decode(data); err == nil && m.Bounds().Empty() {
			t.Error("an empty picture")
		}
	})
}
