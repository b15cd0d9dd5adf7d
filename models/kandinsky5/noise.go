package kandinsky5

import (
	"github.com/vkandinsky/vkandinsky/internal/torchrand"
)

// LatentNoise returns the noise that upstream starts from with a seed: the first draw of a fresh CUDA generator, in
// bf16, [T, H, W, C] (kandinsky-5, kandinsky/generation_utils.py, generate).
func LatentNoise(seed uint64, n int) ([]float32, error) {
	g, err := torchrand.New(seed, torchrand.H100())
	if err != nil {
		return nil, err
	}
	noise := make([]float32, n)
	g.NormalBF16(noise)
	return noise, nil
}

// posteriorNoise returns the noise of the first frame's encoding, [1, H, W, C]: upstream draws [1, C, 1, H, W] from the
// process-wide CUDA generator, which its command line seeds with the same seed.
func posteriorNoise(seed uint64, channels, height, width int) ([]float32, error) {
	g, err := torchrand.New(seed, torchrand.H100())
	if err != nil {
		return nil, err
	}
	planes := make([]float32, channels*height*width)
	g.Normal(planes)
	out := make([]float32, len(planes))
	for c := range channels {
		for k := range height * width {
			out[k*channels+c] = planes[c*height*width+k]
		}
	}
	return out, nil
}
