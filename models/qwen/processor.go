package qwen

import (
	"fmt"
	"math"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// maxAspect is the largest ratio of a picture's sides.
const maxAspect = 200

// Processor makes pictures ready for the vision tower (transformers, models/qwen2_vl/image_processing_qwen2_vl_fast.py).
type Processor struct {
	Config weights.ImageProcessorConfig
	Vision weights.QwenVisionConfig
}

// Size returns the size in pixels at which a picture is shown: both sides multiples of a merged cell's, the aspect
// kept as near as those allow, and the area between the configuration's least and largest.
func (p Processor) Size(height, width int) (fitHeight, fitWidth int, err error) {
	if height < 1 || width < 1 || max(height, width) > maxAspect*min(height, width) {
		return 0, 0, fmt.Errorf("qwen: a picture of %d×%d pixels: one side may be %d times the other at most, crop it", width, height, maxAspect)
	}
	unit := float64(p.Vision.PatchSize * p.Vision.SpatialMergeSize)
	h, w := float64(height), float64(width)
	fit := func(round func(float64) float64, scale float64) (float64, float64) {
		return round(h*scale/unit) * unit, round(w*scale/unit) * unit
	}
	// The reference divides where it makes smaller and multiplies where it enlarges, which decides between neighbours.
	fh, fw := fit(math.RoundToEven, 1)
	if least, most := float64(p.Config.MinPixels), float64(p.Config.MaxPixels); fh*fw > most {
		beta := math.Sqrt(h * w / most)
		fh, fw = max(unit, math.Floor(h/beta/unit)*unit), max(unit, math.Floor(w/beta/unit)*unit)
	} else if fh*fw < least {
		fh, fw = fit(math.Ceil, math.Sqrt(least/(h*w)))
	}
	return int(fh), int(fw), nil
}

// Patches returns how many patches a picture of a size in pixels is cut into.
func (p Processor) Patches(height, width int) (int, error) {
	h, w, err := p.Size(height, width)
	return h / p.Vision.PatchSize * (w / p.Vision.PatchSize), err
}

// Image resizes a picture, normalises it and cuts it into patches. The vision tower must take three channels.
func (p Processor) Image(im *media.Image) (Image, error) {
	v := p.Vision
	if v.InChans != 3 {
		return Image{}, fmt.Errorf("qwen: the vision tower takes %d channels, a picture has 3", v.InChans)
	}
	height, width, err := p.Size(im.Height, im.Width)
	if err != nil {
		return Image{}, err
	}
	im = media.ResizeBicubicAntialias(im, height, width)
	out := Image{Rows: height / v.PatchSize, Cols: width / v.PatchSize}
	out.Patches = make([]float32, 0, out.Rows*out.Cols*patchElements(v))
	values := p.normalised()
	merge := v.SpatialMergeSize
	rows, cols := out.cells(v)
	for cell := range rows * cols {
		for k := range merge * merge {
			out.Patches = appendPatch(out.Patches, im, v, cell/cols*merge+k/merge, cell%cols*merge+k%merge, &values)
		}
	}
	return out, nil
}

// appendPatch appends the patch at a row and column of patches: channels, each with its frames, which are all the same.
func appendPatch(dst []float32, im *media.Image, v weights.QwenVisionConfig, row, col int, values *[3][256]float32) []float32 {
	side := v.PatchSize
	for c := range 3 {
		from := len(dst)
		for y := row * side; y < (row+1)*side; y++ {
			for x := col * side; x < (col+1)*side; x++ {
				dst = append(dst, values[c][im.Pix[3*(y*im.Width+x)+c]])
			}
		}
		frame := dst[from:]
		for range v.TemporalPatchSize - 1 {
			dst = append(dst, frame...)
		}
	}
	return dst
}

// normalised returns what each level of each channel becomes: (x − 255·mean) / (255·std), in fp32 as the reference has it.
func (p Processor) normalised() (values [3][256]float32) {
	for c := range 3 {
		mean, std := float32(float32(p.Config.Mean[c])*255), float32(float32(p.Config.Std[c])*255)
		for x := range 256 {
			values[c][x] = (float32(x) - mean) / std
		}
	}
	return values
}
