package weights

import (
	"fmt"
	"math"
)

// ImageProcessorConfig says how a picture is made ready for the vision tower: the keys of preprocessor_config.json that
// the vision tower's own configuration does not have.
type ImageProcessorConfig struct {
	MinPixels int        `json:"min_pixels"` // smaller pictures are enlarged, larger ones made smaller
	MaxPixels int        `json:"max_pixels"`
	Mean      [3]float64 `json:"image_mean"` // of each channel, in units of 255
	Std       [3]float64 `json:"image_std"`
}

// PublishedImageProcessor is the published preprocessor_config.json (Qwen/Qwen2.5-VL-7B-Instruct).
func PublishedImageProcessor() ImageProcessorConfig {
	return ImageProcessorConfig{MinPixels: 3136, MaxPixels: 12845056,
		Mean: [3]float64{0.48145466, 0.4578275, 0.40821073}, Std: [3]float64{0.26862954, 0.26130258, 0.27577711}}
}

// LoadImageProcessorConfig reads a preprocessor_config.json; an empty path means there is none, and the published
// values hold.
func LoadImageProcessorConfig(path string) (ImageProcessorConfig, error) {
	if path == "" {
		return PublishedImageProcessor(), nil
	}
	data, err := readBounded(path, maxJSON)
	if err != nil {
		return ImageProcessorConfig{}, fmt.Errorf("weights: read config: %w", err)
	}
	p, err := ParseImageProcessorConfig(data)
	if err != nil {
		return p, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// maxPicture bounds max_pixels: sixteen times the published one.
const maxPicture = 12845056 * 16

// ParseImageProcessorConfig reads preprocessor_config.json and validates it. Keys that are absent have the published
// values; newer files name the pixels size.shortest_edge and size.longest_edge, which are areas all the same.
func ParseImageProcessorConfig(data []byte) (ImageProcessorConfig, error) {
	p := PublishedImageProcessor()
	var newer struct {
		Size struct {
			Shortest int `json:"shortest_edge"`
			Longest  int `json:"longest_edge"`
		} `json:"size"`
	}
	err := firstError(unmarshal(data, &newer))
	if s := newer.Size; s.Shortest != 0 && s.Longest != 0 {
		p.MinPixels, p.MaxPixels = s.Shortest, s.Longest
	}
	if err == nil {
		err = unmarshal(data, &p)
	}
	if err == nil {
		err = firstError(inRange("min_pixels", p.MinPixels, 1, maxPicture), inRange("max_pixels", p.MaxPixels, p.MinPixels, maxPicture))
	}
	for k := range 3 {
		if err == nil && !(math.Abs(p.Mean[k]) <= 10 && p.Std[k] > 1e-6 && p.Std[k] <= 10) {
			err = fmt.Errorf("image_mean %g or image_std %g out of range", p.Mean[k], p.Std[k])
		}
	}
	if err != nil {
		return ImageProcessorConfig{}, fmt.Errorf("weights: image processor config: %w", err)
	}
	return p, nil
}
