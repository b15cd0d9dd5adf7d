// Package torchrand draws the normal numbers that torch.randn draws from a CUDA generator, so that a seed gives the
// noise, and with it the video, that the PyTorch program gives (pytorch/pytorch,
// aten/src/ATen/native/cuda/DistributionTemplates.h and ATen/core/PhiloxRNGEngine.h; cuRAND's Box–Muller).
//
// CUDA's numbers depend on the card: long draws are dealt out to as many threads as the card runs at once. A Card
// stands for one; which real device computes here makes no difference.
//
// The numbers agree to about 2·10⁻⁶, the error of the fast sine, cosine and logarithm of the cards; rounded to
// bfloat16 all but about one in six thousand are equal.
package torchrand

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
)

// Card is what a draw depends on of a CUDA card. The zero value is H100.
type Card struct {
	Multiprocessors          int
	ThreadsPerMultiprocessor int
}

// H100 returns the card whose noise the published examples can be expected to show.
func H100() Card { return Card{Multiprocessors: 132, ThreadsPerMultiprocessor: 2048} }

// blockThreads is PyTorch's block size for random kernels; each thread makes perThread numbers at a time.
const (
	blockThreads = 256
	perThread    = 4
)

// Generator is a CUDA generator: a seed and how far its stream has been used. It is not safe for concurrent use.
type Generator struct {
	seed, offset uint64
	maxBlocks    uint64
}

// New returns a fresh generator, as torch.Generator("cuda").manual_seed(seed) does. A card needs at least one
// multiprocessor of 256 threads.
func New(seed uint64, card Card) (*Generator, error) {
	if card == (Card{}) {
		card = H100()
	}
	if card.Multiprocessors < 1 || card.ThreadsPerMultiprocessor < blockThreads || card.Multiprocessors > 1<<16 || card.ThreadsPerMultiprocessor > 1<<16 {
		return nil, fmt.Errorf("torchrand: no card has %d multiprocessors of %d threads", card.Multiprocessors, card.ThreadsPerMultiprocessor)
	}
	return &Generator{seed: seed, maxBlocks: uint64(card.Multiprocessors) * uint64(card.ThreadsPerMultiprocessor/blockThreads)}, nil
}

// Offset returns how far the stream has been used, in PyTorch's count: a multiple of 4.
func (g *Generator) Offset() uint64 { return g.offset }

// threads returns how many threads share a draw of n numbers.
func (g *Generator) threads(n uint64) uint64 {
	return blockThreads * min(g.maxBlocks, (n+blockThreads-1)/blockThreads)
}

// Normal fills dst with the next draw of standard normal numbers: torch.randn of len(dst) elements in memory order.
// Draws are not pieces of one stream: two of n differ from one of 2n, there as here.
func (g *Generator) Normal(dst []float32) {
	g.draw(uint64(len(dst)), func(e uint64, z float32) { dst[e] = z })
}

// NormalBF16 is Normal for a bfloat16 tensor: the same numbers, each rounded to bfloat16.
func (g *Generator) NormalBF16(dst []float32) {
	g.draw(uint64(len(dst)), func(e uint64, z float32) { dst[e] = numeric.RoundBF16(z) })
}

// draw hands every element's number to put, from several goroutines, each element once.
func (g *Generator) draw(n uint64, put func(element uint64, z float32)) {
	if n == 0 {
		return
	}
	threads := g.threads(n)
	rounds := (n-1)/(perThread*threads) + 1
	pieces := min(uint64(runtime.GOMAXPROCS(0)), threads)
	var wg sync.WaitGroup
	for p := range pieces {
		wg.Go(func() {
			for t := threads * p / pieces; t < threads*(p+1)/pieces; t++ {
				g.thread(t, threads, rounds, n, put)
			}
		})
	}
	wg.Wait()
	g.offset += perThread * rounds
}

// thread makes the numbers of one CUDA thread: the four of a round lie a whole grid apart.
func (g *Generator) thread(t, threads, rounds, n uint64, put func(element uint64, z float32)) {
	for k := range rounds {
		first := k*perThread*threads + t
		if first >= n {
			return
		}
		counter := g.offset/perThread + k
		w := philox([4]uint32{uint32(counter), uint32(counter >> 32), uint32(t), uint32(t >> 32)}, g.seed)
		var z [perThread]float32
		z[0], z[1] = boxMuller(w[0], w[1])
		z[2], z[3] = boxMuller(w[2], w[3])
		for j := range uint64(perThread) {
			if e := first + j*threads; e < n {
				put(e, z[j])
			}
		}
	}
}

// boxMuller turns two random words into two normal numbers (Box and Muller, "A note on the generation of random
// normal deviates", 1958), sine first. As on the card, a word becomes fp32 before it is scaled, to the middle of one
// of 2³² intervals of (0, 1] and of (0, 2π]; the products are exact in fp64, so the rounding to fp32 stands for the
// card's fused multiply-add.
func boxMuller(a, b uint32) (sine, cosine float32) {
	const (
		unit  = float32(2.3283064e-10) // 2⁻³²
		angle = float32(1.4629181e-09) // 2π·2⁻³²
	)
	u := float32(float64(float32(a))*float64(unit) + float64(unit/2))
	v := float32(float64(float32(b))*float64(angle) + float64(angle/2))
	radius := math.Sqrt(-2 * math.Log(float64(u)))
	s, c := math.Sincos(float64(v))
	return float32(radius * s), float32(radius * c)
}
