package ref

import "math"

// FrameNorm pulls the statistics of the first `source` frames of x [frames, size] towards those of frames
// [from, to), as image-to-video does with its first latent frames (kandinsky-5, kandinsky/i2v_pipeline.py,
// normalize_first_frame). limits are how far the mean may go down and up and the deviation down and up.
func FrameNorm(x []float64, size, source, from, to int, limits [4]float64) []float64 {
	mustHold("FrameNorm x", x, len(x)/size*size)
	y := append([]float64(nil), x...)
	refMean, refStd := unbiased(x[from*size : to*size])
	for f := range source {
		frame := y[f*size : (f+1)*size]
		mean, std := unbiased(frame)
		toMean := math.Min(math.Max(refMean, mean-limits[0]), mean+limits[1])
		toStd := math.Min(math.Max(refStd, std-limits[2]), std+limits[3])
		for i, v := range frame {
			frame[i] = (v-mean)/std*toStd + toMean
		}
	}
	return y
}

func unbiased(x []float64) (mean, std float64) {
	mean, squares := Moments(x)
	return mean, math.Sqrt(squares / float64(len(x)-1))
}
