package media

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"os"

	"golang.org/x/image/webp"

	"github.com/vkandinsky/vkandinsky/internal/jpegdec"
)

// Limits of what LoadImage takes. They are checked on the file's header, before its pixels are allocated.
const (
	maxImageBytes  = 256 << 20
	maxImageSide   = 32768
	maxImagePixels = 100_000_000
)

// LoadImage reads a PNG, JPEG or WebP picture, told apart by content, as RGB. Like upstream's way of opening a
// picture it does not follow an EXIF rotation and drops transparency without blending; grey, palette and CMYK
// pictures are converted. An error is one line that names the file.
func LoadImage(path string) (*Image, error) {
	data, err := ReadImage(path)
	if err != nil {
		return nil, err
	}
	return DecodeImage(path, data)
}

// ReadImage reads the bytes of a picture's file for DecodeImage.
func ReadImage(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("image %s: is a folder", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxImageBytes+1))
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	if len(data) > maxImageBytes {
		return nil, fmt.Errorf("image %s: larger than %d MiB", path, maxImageBytes>>20)
	}
	return data, nil
}

// DecodeImage is LoadImage on bytes in memory; name appears in errors.
func DecodeImage(name string, data []byte) (*Image, error) {
	format, config, decode := sniff(data)
	if format == "" {
		return nil, fmt.Errorf("image %s: not a PNG, JPEG or WebP file", name)
	}
	if err := checkHeader(config, data); err != nil {
		return nil, fmt.Errorf("image %s: broken %s: %w", name, format, err)
	}
	var im *Image
	m, err := decode(bytes.NewReader(data))
	if err == nil {
		im, err = toRGB(m, format)
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: broken %s: %w", name, format, err)
	}
	return im, nil
}

type configFunc func(io.Reader) (image.Config, error)
type decodeFunc func(io.Reader) (image.Image, error)

// sniff tells the format by its first bytes; "" when it is none of ours.
func sniff(data []byte) (string, configFunc, decodeFunc) {
	switch {
	case bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")):
		return "PNG", png.DecodeConfig, png.Decode
	case bytes.HasPrefix(data, []byte("\xff\xd8\xff")):
		return "JPEG", jpeg.DecodeConfig, decodeJPEG
	case len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == "WEBP":
		return "WebP", webpConfig, webp.Decode
	}
	return "", nil, nil
}

// decodeJPEG decodes to the reference's samples where it can, else as Go does, whose errors are also the last word.
func decodeJPEG(r io.Reader) (image.Image, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if m, err := jpegdec.Decode(data); err == nil {
		return m, nil
	}
	return jpeg.Decode(bytes.NewReader(data))
}

func checkHeader(config configFunc, data []byte) error {
	c, err := config(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return checkSize(c.Width, c.Height)
}

func checkSize(width, height int) error {
	switch {
	case width < 1 || height < 1:
		return fmt.Errorf("%d x %d pixels", width, height)
	case width > maxImageSide || height > maxImageSide || width*height > maxImagePixels:
		return fmt.Errorf("%d x %d pixels is too large (at most %d a side and %d million in all)", width, height, maxImageSide, maxImagePixels/1_000_000)
	}
	return nil
}

// errAnimated is what an animated WebP gives: its frames are not the picture the user meant.
var errAnimated = errors.New("animated pictures are not supported, save one frame")

// webpConfig returns the largest size any part of a WebP file claims: the decoder allocates by the size of the
// part it meets, which need not be the size in the file's head.
func webpConfig(r io.Reader) (image.Config, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return image.Config{}, err
	}
	c, err := webp.DecodeConfig(bytes.NewReader(data))
	for pos := 12; pos+8 <= len(data); {
		id, size := string(data[pos:pos+4]), int(le32(data[pos+4:]))
		body := data[pos+8 : min(len(data), pos+8+size)]
		w, h := 0, 0
		switch {
		case id == "ANIM" || id == "ANMF":
			return c, errAnimated
		case id == "VP8X" && len(body) >= 10:
			w, h = 1+int(le32(body[4:])&0xffffff), 1+int(le32(body[6:])>>8)
		case id == "VP8L" && len(body) >= 5:
			b := le32(body[1:])
			w, h = 1+int(b&0x3fff), 1+int(b>>14&0x3fff)
		case id == "VP8 " && len(body) >= 10:
			b := le32(body[6:])
			w, h = int(b&0x3fff), int(b>>16&0x3fff)
		}
		c.Width, c.Height = max(c.Width, w), max(c.Height, h)
		pos += 8 + size + size&1
	}
	return c, err
}

func le32(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}
