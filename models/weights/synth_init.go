package weights

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"runtime"
	"strings"
	"sync"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// synthBlockBytes is what Synth generates before it writes; it bounds Synth's memory.
const synthBlockBytes = 16 << 20

// filler writes the elements of a tensor that begin at flat index at into dst. It is pure, so blocks can be filled
// in any order and by several goroutines.
type filler func(dst []float32, at int64)

// noise is a stream of nearly normal numbers of which any element can be had at once.
type noise struct{ key uint64 }

// newNoise keys a stream by the seed and the tensor, so that a tensor does not depend on the others of its file.
func newNoise(seed uint64, c Component, name string) noise {
	h := fnv.New64a()
	_, _ = h.Write([]byte(string(c) + "/" + name)) // never fails
	return noise{mix(seed ^ mix(h.Sum64()))}
}

// at is element i of the stream: the sum of the four 16-bit parts of one hash, scaled to unit variance (Irwin–Hall;
// within ±3.47). Integer arithmetic and one multiplication make it the same on every machine.
func (n noise) at(i int64) float32 {
	const inverseDeviation = 1 / 37837.22745 // four times the variance of a uniform 16-bit integer, (2^32-1)/12
	u := mix(n.key + uint64(i)*0x9e3779b97f4a7c15)
	sum := int32(u&0xffff) + int32(u>>16&0xffff) + int32(u>>32&0xffff) + int32(u>>48)
	return float32(sum-2*0xffff) * inverseDeviation
}

// mix is the finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// initialiser chooses the distribution of a tensor by its role.
func initialiser(c Component, info TensorInfo, seed uint64) filler {
	n := newNoise(seed, c, info.Name)
	switch isBias := strings.HasSuffix(info.Name, ".bias"); {
	case c == VAE && info.Name == "quant_conv.bias":
		return posteriorBias(n, info.Shape[0]/2)
	case isBias:
		return normal(n, 0.02)
	case len(info.Shape) == 1: // the only one-dimensional weights are gains of norms
		return func(dst []float32, _ int64) {
			for i := range dst {
				dst[i] = 1
			}
		}
	case strings.HasSuffix(info.Name, "position_embedding.weight"):
		return normal(n, 0.1)
	case strings.HasSuffix(info.Name, "embed_tokens.weight"), strings.HasSuffix(info.Name, "token_embedding.weight"):
		return normal(n, 1)
	case len(info.Shape) == 5 && info.Shape[2] == 3:
		return smoothKernel(n, info.Shape[1])
	case strings.Contains(info.Name, "modulation"):
		// Shifts, scales and gates of about a third: sixty blocks must neither vanish nor explode.
		return normal(n, 0.5/sqrt(fanIn(info.Shape)))
	}
	return normal(n, 1/sqrt(fanIn(info.Shape)))
}

func fanIn(shape []int) int {
	n := 1
	for _, extent := range shape[1:] {
		n *= extent
	}
	return n
}

func sqrt(n int) float32 { return float32(math.Sqrt(float64(n))) }

func normal(n noise, deviation float32) filler {
	return func(dst []float32, at int64) {
		for i := range dst {
			dst[i] = n.at(at+int64(i)) * deviation
		}
	}
}

// posteriorBias makes the second half of the posterior's parameters, the log variance, about -8, as in a trained
// autoencoder: otherwise the sample of the first frame would be mostly noise.
func posteriorBias(n noise, latentChannels int) filler {
	return func(dst []float32, at int64) {
		for i := range dst {
			dst[i] = n.at(at+int64(i)) * 0.02
			if at+int64(i) >= int64(latentChannels) {
				dst[i] -= 8
			}
		}
	}
}

// smoothKernel fills [out, in, 3, 3, 3] kernels: one random number per pair of channels, spread over the taps with
// binomial weights (1, 2, 1)/4 per axis, plus a little independent noise.
func smoothKernel(n noise, in int) filler {
	grain := noise{mix(n.key + 1)}
	var taps [27]float32
	for k := range taps {
		weight := [3]float32{0.25, 0.5, 0.25}
		taps[k] = weight[k/9] * weight[k/3%3] * weight[k%3]
	}
	scale := 1 / sqrt(in)
	grainScale := 0.1 * scale / sqrt(27)
	return func(dst []float32, at int64) {
		for i := range dst {
			e := at + int64(i)
			// The conversions forbid fused multiply-adds, which not every machine has.
			dst[i] = float32(n.at(e/27)*scale*taps[e%27]) + float32(grain.at(e)*grainScale)
		}
	}
}

// fillParallel generates a block of elements that begins at flat index at and stores it as type d.
func fillParallel(block []byte, d DType, at int64, fill filler) {
	const step = 1 << 16 // elements per piece
	size := d.Size()
	elements := len(block) / size
	pieces := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (elements+step-1)/step) {
		workers.Go(func() {
			scratch := make([]float32, min(step, elements))
			for begin := range pieces {
				values := scratch[:min(step, elements-begin)]
				fill(values, at+int64(begin))
				store(block[begin*size:(begin+len(values))*size], values, d)
			}
		})
	}
	for begin := 0; begin < elements; begin += step {
		pieces <- begin
	}
	close(pieces)
	workers.Wait()
}

// store writes values as type d.
func store(dst []byte, values []float32, d DType) {
	switch d {
	case F32:
		for i, v := range values {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
		}
	case F16:
		numeric.F16FromF32s(dst, values)
	default:
		numeric.BF16FromF32s(dst, values)
	}
}
