package media

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/jpegdec"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func load(t *testing.T, path string) *Image {
	t.Helper()
	im, err := LoadImage(path)
	if err != nil {
		t.Fatal(err)
	}
	return im
}

// largest returns the largest absolute difference of two pictures' samples and the mean one.
func largest(t *testing.T, a, b *Image) (int, float64) {
	t.Helper()
	if a.Height != b.Height || a.Width != b.Width || len(a.Pix) != len(b.Pix) {
		t.Fatalf("sizes differ: %dx%d, %dx%d", a.Height, a.Width, b.Height, b.Width)
	}
	worst, sum := 0, 0
	for i := range a.Pix {
		d := int(a.Pix[i]) - int(b.Pix[i])
		if d < 0 {
			d = -d
		}
		worst, sum = max(worst, d), sum+d
	}
	return worst, float64(sum) / float64(len(a.Pix))
}

func TestLoadImageAgreesWithTheReferenceDecoders(t *testing.T) {
	for _, tc := range []struct {
		file  string
		worst int
		mean  float64
	}{
		{"j420.jpg", 0, 0}, {"j422.jpg", 0, 0}, {"jprog.jpg", 0, 0},
		{"wlossy.webp", 0, 0}, {"weven.webp", 0, 0}, {"walpha.webp", 0, 0}, {"wll.webp", 0, 0},
		{"cmyk.jpg", 16, 3}, // against the picture before JPEG
	} {
		t.Run(tc.file, func(t *testing.T) {
			name := strings.TrimSuffix(tc.file, filepath.Ext(tc.file))
			want := load(t, filepath.Join("testdata", name+".want.png"))
			worst, mean := largest(t, load(t, filepath.Join("testdata", tc.file)), want)
			if worst > tc.worst || mean > tc.mean {
				t.Errorf("differs by up to %d, %.3f on average", worst, mean)
			}
		})
	}
}

func encodePNG(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPNGPixelFormats(t *testing.T) {
	r := image.Rect(0, 0, 2, 1)
	set := func(m interface {
		image.Image
		Set(x, y int, c color.Color)
	}, a, b color.Color) image.Image {
		m.Set(0, 0, a)
		m.Set(1, 0, b)
		return m
	}
	half := color.NRGBA{200, 100, 50, 128}
	for _, tc := range []struct {
		name string
		m    image.Image
		want []uint8
	}{
		{"opaque colour", set(image.NewRGBA(r), color.RGBA{1, 2, 3, 255}, color.RGBA{250, 251, 252, 255}), []uint8{1, 2, 3, 250, 251, 252}},
		{"transparency is dropped, not blended", set(image.NewNRGBA(r), half, color.NRGBA{9, 8, 7, 0}), []uint8{200, 100, 50, 9, 8, 7}},
		{"grey", set(image.NewGray(r), color.Gray{7}, color.Gray{255}), []uint8{7, 7, 7, 255, 255, 255}},
		{"16 bits of grey", set(image.NewGray16(r), color.Gray16{0x1234}, color.Gray16{0xffff}), []uint8{0x12, 0x12, 0x12, 255, 255, 255}},
		{"16 bits of colour", set(image.NewNRGBA64(r), color.NRGBA64{0x1234, 0x8000, 0xff00, 0x8000}, color.NRGBA64{0, 1, 0xffff, 0xffff}), []uint8{0x12, 0x80, 0xff, 0, 0, 255}},
		{"a palette with transparency", set(image.NewPaletted(r, color.Palette{half, color.NRGBA{1, 2, 3, 255}}), half, color.NRGBA{1, 2, 3, 255}), []uint8{200, 100, 50, 1, 2, 3}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			im, err := DecodeImage("x.png", encodePNG(t, tc.m))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(im.Pix, tc.want) {
				t.Errorf("got %v, want %v", im.Pix, tc.want)
			}
		})
	}
}

// hugePNG is a PNG whose header claims a size and whose pixels are missing.
func hugePNG(width, height uint32) []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR")
	b = binary.BigEndian.AppendUint32(b, width)
	b = binary.BigEndian.AppendUint32(b, height)
	b = append(b, 8, 2, 0, 0, 0)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[12:]))
}

// lyingWebP is a WebP whose head says 1×1 and whose lossless part claims more.
func lyingWebP(side uint32) []byte {
	vp8l := append([]byte{0x2f}, binary.LittleEndian.AppendUint32(nil, side-1|(side-1)<<14)...)
	body := append([]byte("WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00VP8L\x06\x00\x00\x00"), vp8l...)
	body = append(body, 0)
	return append(binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

func TestBrokenImagesGiveOneClearError(t *testing.T) {
	good := encodePNG(t, image.NewGray(image.Rect(0, 0, 64, 64)))
	var jpg bytes.Buffer
	if err := jpeg.Encode(&jpg, image.NewGray(image.Rect(0, 0, 64, 64)), nil); err != nil {
		t.Fatal(err)
	}
	webp, err := os.ReadFile("testdata/wlossy.webp")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "not a PNG"},
		{"text", []byte("GIF89a or nothing"), "not a PNG"},
		{"PNG cut short", good[:len(good)-20], "broken PNG"},
		{"PNG with a flipped bit", append(append([]byte{}, good[:60]...), append([]byte{good[60] ^ 1}, good[61:]...)...), "broken PNG"},
		{"PNG wider than any", hugePNG(100000, 1), "too large"},
		{"PNG of too many pixels", hugePNG(20000, 20000), "too large"},
		{"JPEG cut short", jpg.Bytes()[:jpg.Len()/2], "broken JPEG"},
		{"WebP cut short", webp[:100], "broken WebP"},
		{"WebP with a part larger than its head says", lyingWebP(16384), "too large"},
		{"animated WebP", append([]byte("RIFF\x20\x00\x00\x00WEBPANIM\x06\x00\x00\x00"), make([]byte, 16)...), "animated"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "плохой file.png")
			if err := os.WriteFile(path, tc.data, 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := LoadImage(path)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := LoadImage(filepath.Join(t.TempDir(), "none.png")); err == nil {
		t.Error("a missing file was read")
	}
	if _, err := LoadImage(t.TempDir()); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("a folder: %v", err)
	}
}

func FuzzDecodeImage(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.[jpw]*")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(hugePNG(2, 2))
	f.Add(lyingWebP(4))
	f.Fuzz(func(t *testing.T, data []byte) {
		format, config, _ := sniff(data)
		if format == "" {
			return
		}
		// Large pictures are legal; they only slow the search down.
		if c, err := config(bytes.NewReader(data)); err == nil && c.Width*c.Height > 1<<20 {
			return
		}
		im, err := DecodeImage("fuzz", data)
		if err == nil && len(im.Pix) != 3*im.Height*im.Width {
			t.Fatalf("%d bytes for %dx%d", len(im.Pix), im.Height, im.Width)
		}
	})
}

// TestJPEGIsBitEqualToTheReference has files of many kinds and what Pillow decodes them to
// (internal/jpegdec/testdata/make.py).
func TestJPEGIsBitEqualToTheReference(t *testing.T) {
	f, err := weights.Open("../jpegdec/testdata/pictures.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cases := 0
	for _, name := range f.Names() {
		name, ok := strings.CutSuffix(name, ".jpg")
		if !ok {
			continue
		}
		cases++
		file, _ := f.Tensor(name + ".jpg")
		want, _ := f.Tensor(name + ".rgb")
		im, err := DecodeImage(name, file.Data)
		if _, own := jpegdec.Decode(file.Data); err != nil || own != nil {
			t.Errorf("%s: %v, %v", name, err, own)
			continue
		}
		if im.Height != want.Shape[0] || im.Width != want.Shape[1] {
			t.Fatalf("%s: %d×%d pixels, want %v", name, im.Height, im.Width, want.Shape)
		}
		if worst, mean := largest(t, im, &Image{Height: im.Height, Width: im.Width, Pix: want.Data}); worst > 0 {
			t.Errorf("%s: off by up to %d levels, %.3f on average", name, worst, mean)
		}
	}
	if cases != 38 {
		t.Errorf("%d pictures, want 38", cases)
	}
}
