package swap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/memory"
)

// mappedLoader reads streamed blocks into a ring of pinned staging buffers and copies them from there. A goroutine
// runs ahead: it reads the next block while earlier ones are copied and used.
//
// Every load is one submit of the swapper's own stream, so the timeline value of a load is known before it is submitted and
// compute can be recorded against it without waiting. Where compute and transfer
// share a queue a submit must not wait for a later one, so there ready waits on the host until the load is submitted.
type mappedLoader struct {
	swapper *Swapper
	ring    []memory.Region
	base    uint64 // load n is done at base + n + 1
	cancel  context.CancelFunc
	done    chan struct{}

	mu       sync.Mutex
	changed  *sync.Cond
	vacant   map[int]engine.Point // load number to the point after which its slot is free
	loaded   int                  // loads submitted
	wanted   int                  // loads that compute has been recorded against
	err      error
	closing  bool
	counting Counters
}

func newMappedLoader(s *Swapper) *mappedLoader {
	l := &mappedLoader{swapper: s, vacant: map[int]engine.Point{}, done: make(chan struct{})}
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *mappedLoader) start(context.Context) error {
	s := l.swapper
	for len(l.ring) < s.config.Ring { // Refresh hands the ring on
		region, err := s.device.AllocRegion(memory.Upload, s.source.BlockBytes(), s.config.Name+": staging ring")
		if err != nil {
			return err
		}
		l.ring = append(l.ring, region)
	}
	value, err := s.stream.Flush()
	if err != nil {
		return err
	}
	l.base = value
	// The goroutine outlives this call; stop ends it.
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go l.run(ctx)
	return nil
}

// run loads until closed. After an error it lets go all compute work that waits for loads which will never come.
func (l *mappedLoader) run(ctx context.Context) {
	defer close(l.done)
	for n := 0; ; n++ {
		if err := l.load(ctx, n); err != nil {
			l.mu.Lock()
			if !l.closing {
				l.err = err
			}
			l.mu.Unlock()
			l.changed.Broadcast()
			l.letGo()
			return
		}
	}
}

var errClosing = errors.New("closing")

// load reads the block of load n into a staging buffer, waits until its slot is known to be free, and submits.
func (l *mappedLoader) load(ctx context.Context, n int) error {
	s := l.swapper
	t := s.stream
	load := s.config.Plan.Load(n)
	staging := l.ring[n%len(l.ring)]
	if n >= len(l.ring) { // the staging buffer's last copy must be over before it is written again
		if err := t.WaitValue(ctx, l.base+uint64(n-len(l.ring))+1); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := s.source.Read(ctx, load.Block, staging.Bytes()[:s.source.BlockBytes()]); err != nil {
		return err
	}
	read := time.Since(start)
	after, err := l.waitFree(load.After)
	if err != nil {
		return err
	}
	if after.Stream != nil {
		t.Wait(after)
	}
	size := s.copyBlock(load, staging)
	value, err := t.Flush()
	if err != nil {
		return err
	}
	if value != l.base+uint64(n)+1 {
		panic(fmt.Sprintf("swap: load %d got timeline value %d", n, value))
	}
	s.keepSpans()
	l.mu.Lock()
	l.loaded = n + 1
	l.counting.Loads++
	l.counting.Bytes += size
	l.counting.ReadTime += read
	l.mu.Unlock()
	l.changed.Broadcast()
	return nil
}

// waitFree returns the point after which the slot of an earlier load may be overwritten.
func (l *mappedLoader) waitFree(n int) (engine.Point, error) {
	if n < 0 {
		return engine.Point{}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if l.closing {
			return engine.Point{}, errClosing
		}
		if p, ok := l.vacant[n]; ok {
			delete(l.vacant, n)
			return p, nil
		}
		l.changed.Wait()
	}
}

func (l *mappedLoader) ready(_ context.Context, n int) (engine.Point, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = n + 1
	if l.swapper.device.SharedQueue() {
		start := time.Now()
		for l.loaded <= n && l.err == nil {
			l.changed.Wait()
		}
		l.counting.HostWait += time.Since(start)
	}
	return engine.Point{Stream: l.swapper.stream, Value: l.base + uint64(n) + 1}, l.err
}

func (l *mappedLoader) released(n int, after engine.Point) error {
	l.mu.Lock()
	l.vacant[n] = after
	err := l.err
	l.mu.Unlock()
	l.changed.Broadcast()
	return err
}

// letGo moves the timeline past the loads that compute was recorded against and that will not come, so that it ends.
// What it computes is worthless; err tells so. On a lost device nothing waits any more, so a failure does not matter.
func (l *mappedLoader) letGo() {
	l.mu.Lock()
	wanted := l.wanted
	l.loaded = max(l.loaded, wanted)
	l.mu.Unlock()
	_ = l.swapper.stream.Skip(l.base + uint64(wanted))
}

func (l *mappedLoader) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *mappedLoader) counters() Counters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counting
}

func (l *mappedLoader) stop() {
	if l.cancel == nil {
		return // never started
	}
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	l.changed.Broadcast()
	l.cancel()
	<-l.done
	l.letGo()
}

func (l *mappedLoader) free() {
	for _, region := range l.ring {
		l.swapper.device.FreeRegion(region)
	}
	l.ring = nil
}
