package load

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/nf4"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// BenchmarkRead reads a checkpoint of eight matrices out of the page cache as a run does when it starts: looked through for
// broken values and converted to bf16. "the file once" is what reading its bytes costs, for comparison: one thread, a
// buffer that stays in the cache.
func BenchmarkRead(b *testing.B) {
	for _, stored := range []weights.DType{weights.F32, weights.BF16} {
		path := filepath.Join(b.TempDir(), "matrices.safetensors")
		shape := []int{4096, 4096}
		size := writeMatrices(b, path, stored, 8, shape)
		b.Run(fmt.Sprintf("%v/the file once", stored), func(b *testing.B) {
			b.SetBytes(size)
			for range b.N {
				readOnce(b, path)
			}
		})
		b.Run(fmt.Sprintf("%v/to bf16", stored), func(b *testing.B) {
			ckpt, err := weights.OpenCheckpoint(path)
			if err != nil {
				b.Fatal(err)
			}
			defer ckpt.Close()
			dst := make([]byte, 2*shape[0]*shape[1])
			b.SetBytes(size)
			for range b.N {
				r := FromCheckpoint(ckpt) // a new one, so that values are looked at again
				for k := range 8 {
					if err := r.Read(b.Context(), fmt.Sprint(k), shape, engine.BF16, dst); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("%v/to 4 bits", stored), func(b *testing.B) {
			ckpt, err := weights.OpenCheckpoint(path)
			if err != nil {
				b.Fatal(err)
			}
			defer ckpt.Close()
			l := nf4.Layout{Rows: shape[0], Cols: shape[1]}
			dst := make([]byte, l.Bytes())
			b.SetBytes(size)
			r := FromCheckpoint(ckpt)
			for range b.N {
				for k := range 8 {
					if err := r.ReadNF4(b.Context(), fmt.Sprint(k), shape, l, dst); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func writeMatrices(b *testing.B, path string, dt weights.DType, n int, shape []int) int64 {
	b.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var tensors []weights.Tensor
	var size int64
	for k := range n {
		data := make([]byte, shape[0]*shape[1]*dt.Size())
		if dt == weights.BF16 {
			for i := 0; i < len(data); i += 2 {
				data[i], data[i+1] = byte(rng.Uint32()), byte(0x3c+rng.Uint32()%3)
			}
		} else {
			for i := 0; i < len(data); i += 4 {
				data[i], data[i+1], data[i+2], data[i+3] = byte(rng.Uint32()), byte(i), byte(rng.Uint32()), byte(0x3c+rng.Uint32()%3)
			}
		}
		tensors = append(tensors, weights.Tensor{Name: fmt.Sprint(k), DType: dt, Shape: shape, Data: data})
		size += int64(len(data))
	}
	if err := weights.WriteFile(path, tensors, nil); err != nil {
		b.Fatal(err)
	}
	return size
}

func readOnce(b *testing.B, path string) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	buffer := make([]byte, 1<<20)
	for {
		if _, err := f.Read(buffer); err == io.EOF {
			return
		} else if err != nil {
			b.Fatal(err)
		}
	}
}
