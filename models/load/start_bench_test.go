package load_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// blockFile writes a checkpoint of blocks of four bf16 matrices, 64 MiB each.
func blockFile(b *testing.B, blocks int) (path string, spec weights.Spec, prefixes []string) {
	b.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	data := make([]byte, 16<<20)
	for i := 0; i < len(data); i += 2 {
		data[i], data[i+1] = byte(rng.Uint32()), byte(0x3c+rng.Uint32()%3)
	}
	var tensors []weights.Tensor
	for k := range blocks {
		prefixes = append(prefixes, fmt.Sprintf("%d.", k))
		for m := range 4 {
			name, shape := fmt.Sprintf("%d.matrix%d", k, m), []int{2048, 4096}
			spec = append(spec, weights.Expected{Name: name, Shape: shape})
			tensors = append(tensors, weights.Tensor{Name: name, DType: weights.BF16, Shape: shape, Data: data})
		}
	}
	path = filepath.Join(b.TempDir(), "blocks.safetensors")
	if err := weights.WriteFile(path, tensors, nil); err != nil {
		b.Fatal(err)
	}
	return path, spec, prefixes
}

// BenchmarkStart opens a checkpoint of ten blocks that lies in the page cache and brings it to where a run begins, with two
// blocks on the device: every value looked at, eight blocks pinned. x-once is that time by the time of reading the file.
func BenchmarkStart(b *testing.B) {
	const blocks = 10
	path, spec, prefixes := blockFile(b, blocks)
	plan, err := swap.NewPlan(swap.Options{Blocks: blocks, Slots: 4, Stream: 2})
	if err != nil {
		b.Fatal(err)
	}
	for _, from := range []engine.PinnedFrom{engine.PinnedDriver, engine.PinnedAuto} {
		b.Run("pinned from "+string(from), func(b *testing.B) {
			d := enginetest.OpenWith(b, engine.Options{PinnedFrom: from})
			var once, start, pin time.Duration
			b.SetBytes(blocks << 26)
			for range b.N {
				once += readFile(b, path)
				began := time.Now()
				s, ckpt := startBlocks(b, d, path, spec, prefixes, swap.Config{Plan: plan, Tier: swap.Pinned})
				start += time.Since(began)
				pin += s.Counters().PinTime
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				ckpt.Close()
			}
			b.ReportMetric(float64(start)/float64(once), "x-once")
			b.ReportMetric(pin.Seconds()/float64(b.N)*1e3, "pin-ms")
			b.ReportMetric(start.Seconds()/float64(b.N)*1e3, "start-ms")
		})
	}
}

func startBlocks(b *testing.B, d *engine.Device, path string, spec weights.Spec, prefixes []string, c swap.Config) (*swap.Swapper, *weights.Checkpoint) {
	b.Helper()
	ckpt, err := weights.OpenCheckpoint(path)
	if err != nil {
		b.Fatal(err)
	}
	source, err := load.NewBlocks(spec, prefixes, load.FromCheckpoint(ckpt), load.Mixed)
	if err != nil {
		b.Fatal(err)
	}
	s, err := swap.New(b.Context(), d, source, c)
	if err != nil {
		b.Fatal(err)
	}
	return s, ckpt
}

// readFile reads a file once, from beginning to end, as cat does.
func readFile(b *testing.B, path string) time.Duration {
	b.Helper()
	start := time.Now()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buffer := make([]byte, 1<<20)
	for {
		if n, _ := f.Read(buffer); n == 0 {
			return time.Since(start)
		}
	}
}
