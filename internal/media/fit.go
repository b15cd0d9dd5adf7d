package media

import (
	"fmt"
	"math"
)

// maxModelSide is the longest side the model has positions for, in pixels.
const maxModelSide = 2048

// FitSize returns the size at which a picture of the given height and width starts a video (kandinsky-5,
// kandinsky/i2v_pipeline.py): about 512·768 pixels in multiples of 16 for resolution 512, about 1024·1024 in
// multiples of 128 above it, with the picture's aspect as near as the multiples allow, larger or smaller than the
// picture. A resolution below 512, which upstream does not have, means about its square in multiples of 16. An aspect so extreme that a side would vanish or pass 2048 pixels is refused.
func FitSize(resolution, height, width int) (fitHeight, fitWidth int, err error) {
	if height < 1 || width < 1 {
		return 0, 0, fmt.Errorf("image of %d x %d pixels", width, height)
	}
	area, multiple := 1024*1024, 128
	switch {
	case resolution == 512:
		area, multiple = 512*768, 16
	case resolution < 512:
		area, multiple = resolution*resolution, 16
	}
	k := math.Sqrt(float64(area)/(float64(height)*float64(width))) / float64(multiple)
	h := math.RoundToEven(float64(height)*k) * float64(multiple)
	w := math.RoundToEven(float64(width)*k) * float64(multiple)
	if h < 1 || w < 1 || h > maxModelSide || w > maxModelSide {
		return 0, 0, fmt.Errorf("image of %d x %d pixels is too narrow for the model: it would become %.0f x %.0f (at most %d a side); crop it", width, height, w, h, maxModelSide)
	}
	return int(h), int(w), nil
}

// FitImage resizes a picture to FitSize; a picture that has the size already is returned as it is.
func FitImage(im *Image, resolution int) (*Image, error) {
	h, w, err := FitSize(resolution, im.Height, im.Width)
	if err != nil {
		return nil, err
	}
	if h == im.Height && w == im.Width {
		return im, nil
	}
	return ResizeBilinearAntialias(im, h, w), nil
}
