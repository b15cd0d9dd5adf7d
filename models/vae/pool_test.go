package vae

import (
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// use takes and puts back random buffers; where the pool has memory it checks that no two share a byte.
func use(t *testing.T, p *pool, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	var live []buffer
	for range 400 {
		if len(live) > 0 && rng.IntN(5) < 2 {
			k := rng.IntN(len(live))
			p.put(live[k])
			live = append(live[:k], live[k+1:]...)
			continue
		}
		b := p.take(engine.F16, 1+rng.IntN(3000), 2)
		for _, o := range live {
			if b.slab == o.slab && b.at < o.at+o.Bytes() && o.at < b.at+b.Bytes() {
				t.Fatalf("buffers at %d and %d of slab %d overlap", b.at, o.at, b.slab)
			}
		}
		if p.slabs != nil && b.Offset+b.Bytes() > b.Mem.Size {
			t.Fatalf("%v at %d passes its slab of %d bytes", b.Tensor, b.Offset, b.Mem.Size)
		}
		live = append(live, b)
	}
	p.put(live...)
}

func TestPoolTakesWhatItPlanned(t *testing.T) {
	dev := enginetest.Open(t)
	p := newPool(100_000)
	use(t, p, 1)
	if len(p.high) < 3 || p.most == 0 || p.live != 0 {
		t.Fatalf("%d slabs, most %d, %d still live", len(p.high), p.most, p.live)
	}
	var total int64
	for _, h := range p.high {
		total += h
		if h > 100_000 {
			t.Errorf("a slab has %d bytes", h)
		}
	}
	if total < p.most || total > p.most*5/4 {
		t.Errorf("slabs of %d bytes for at most %d in use", total, p.most)
	}
	if err := p.bind(dev, "test"); err != nil {
		t.Fatal(err)
	}
	defer p.release(dev)
	use(t, p, 1)

	defer func() {
		if recover() == nil {
			t.Error("work that takes more than was planned does not panic")
		}
	}()
	for range 1000 {
		p.take(engine.F32, 1000)
	}
}

func TestPoolRefusesWhatNoSlabHolds(t *testing.T) {
	p := newPool(1 << 20)
	if b := p.take(engine.F32, 1<<18); p.err != nil || b.Bytes() != 1<<20 {
		t.Fatal(p.err)
	}
	p.take(engine.F32, 1<<18+1)
	if p.err == nil {
		t.Fatal("a buffer larger than a slab is accepted")
	}
	if b := p.take(engine.F32, 8); !b.IsZero() {
		t.Error("the error is forgotten")
	}
}
