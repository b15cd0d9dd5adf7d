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

// mappedLoader copies blocks that were pinned at the start from there (tier Mixed, none in tier Mapped) and reads all others,
// for every load, into a ring of pinned staging buffers. Two goroutines run ahead of compute: one reads the blocks to come
// into buffers that are free, the other submits copies in the order of loads. So the next block is being read while earlier
// ones are copied and used, however many pinned ones lie between.
//
// Every load is one submit of the swapper's own stream, so the timeline value of a load is known before it is submitted and
// compute can be recorded against it without waiting. Where compute and transfer
// share a queue a submit must not wait for a later one, so there ready waits on the host until the load is submitted.
type mappedLoader struct {
	swapper *Swapper
	kept    hostCopies
	ring    []memory.Region
	through []int  // places in Plan.Streamed of the blocks that are read
	base    uint64 // load n is done at base + n + 1
	cancel  context.CancelFunc
	done    sync.WaitGroup
	turn    int // reads submitted; of the submitting goroutine alone

	mu       sync.Mutex
	changed  *sync.Cond
	vacant   map[int]engine.Point // load number to the point after which its slot is free
	read     int                  // blocks read into the ring
	loaded   int                  // loads submitted
	wanted   int                  // loads that compute has been recorded against
	readErr  error                // why read number read failed
	err      error                // why load number loaded failed
	closing  bool
	counting Counters
}

func newMappedLoader(s *Swapper) *mappedLoader {
	l := &mappedLoader{swapper: s, kept: hostCopies{}, vacant: map[int]engine.Point{}}
	l.changed = sync.NewCond(&l.mu)
	return l
}

func (l *mappedLoader) start(ctx context.Context) error {
	s := l.swapper
	for len(l.ring) < s.config.Ring {
		region, err := s.device.AllocRegion(memory.Upload, s.source.BlockBytes(), s.config.Name+": staging ring")
		if err != nil {
			return err
		}
		l.ring = append(l.ring, region)
	}
	if err := l.kept.pinSome(ctx, s, &l.counting); err != nil {
		return err
	}
	return l.begin()
}

// begin lets the goroutines run, which outlive this call; stop ends them.
func (l *mappedLoader) begin() error {
	s := l.swapper
	for k, block := range s.config.Plan.Streamed {
		if l.kept[block].IsZero() {
			l.through = append(l.through, k)
		}
	}
	value, err := s.stream.Flush()
	if err != nil {
		return err
	}
	l.base = value
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.done.Go(func() { l.submitAll() })
	if len(l.through) > 0 {
		l.done.Go(func() { l.readAll(ctx) })
	}
	return nil
}

// refresh takes the blocks of another source after stop, and begins anew.
func (l *mappedLoader) refresh(ctx context.Context, c Change) error {
	next := newMappedLoader(l.swapper)
	next.ring, next.kept, next.counting = l.ring, l.kept, l.counting
	l.swapper.loader = next
	if err := next.kept.patch(ctx, l.swapper, c); err != nil {
		return err
	}
	return next.begin()
}

// loadOf returns the load that a read is for, both counted through all passes.
func (l *mappedLoader) loadOf(read int) int {
	n := len(l.through)
	return read/n*len(l.swapper.config.Plan.Streamed) + l.through[read%n]
}

var errClosing = errors.New("closing")

// await waits until something is so. It ends with the error of the loads, or when the loader is closed.
func (l *mappedLoader) await(so func() bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		switch {
		case l.closing:
			return errClosing
		case l.err != nil:
			return l.err
		case so():
			return nil
		}
		l.changed.Wait()
	}
}

// set changes what is guarded and tells all who wait.
func (l *mappedLoader) set(change func()) {
	l.mu.Lock()
	change()
	l.mu.Unlock()
	l.changed.Broadcast()
}

// readAll reads blocks into the ring until closed. An error is the submitting goroutine's to tell, when it comes to that load:
// nobody may ask for it.
func (l *mappedLoader) readAll(ctx context.Context) {
	for r := 0; ; r++ {
		if err := l.readBlock(ctx, r); err != nil {
			l.set(func() { l.readErr = err })
			return
		}
	}
}

func (l *mappedLoader) readBlock(ctx context.Context, r int) error {
	s := l.swapper
	if old := r - len(l.ring); old >= 0 { // the buffer's last copy must be over before it is written again
		n := l.loadOf(old)
		if err := l.await(func() bool { return l.loaded > n }); err != nil {
			return err
		}
		if err := s.stream.AwaitValue(ctx, l.base+uint64(n)+1); err != nil {
			return err
		}
	}
	start := time.Now()
	dst := l.ring[r%len(l.ring)].Bytes()[:s.source.BlockBytes()]
	if err := s.source.Read(ctx, s.config.Plan.Load(l.loadOf(r)).Block, dst); err != nil {
		return err
	}
	took := time.Since(start)
	l.set(func() {
		l.read = r + 1
		l.counting.Reads++
		l.counting.ReadTime += took
	})
	return nil
}

// submitAll submits loads until closed. After an error it lets go all compute work that waits for loads which will never come.
func (l *mappedLoader) submitAll() {
	for n := 0; ; n++ {
		if err := l.load(n); err != nil {
			l.set(func() {
				if !l.closing {
					l.err = err
				}
			})
			l.letGo()
			return
		}
	}
}

// load waits until the block of load n is in host memory and its slot known to be free, and submits its copy.
func (l *mappedLoader) load(n int) error {
	s := l.swapper
	t := s.stream
	load := s.config.Plan.Load(n)
	from := l.kept[load.Block]
	if from.IsZero() {
		if err := l.filled(l.turn); err != nil {
			return err
		}
		from = l.ring[l.turn%len(l.ring)]
		l.turn++
	}
	after, err := l.vacated(load.After)
	if err != nil {
		return err
	}
	if after.Stream != nil {
		t.Wait(after)
	}
	size := s.copyBlock(load, from)
	value, err := t.Flush()
	if err != nil {
		return err
	}
	if value != l.base+uint64(n)+1 {
		panic(fmt.Sprintf("swap: load %d got timeline value %d", n, value))
	}
	s.keepSpans()
	l.set(func() {
		l.loaded = n + 1
		l.counting.Loads++
		l.counting.Bytes += size
	})
	return nil
}

// filled waits until a read is over.
func (l *mappedLoader) filled(r int) (err error) {
	failed := l.await(func() bool {
		if l.read <= r {
			err = l.readErr
		}
		return l.read > r || err != nil
	})
	if failed != nil {
		return failed
	}
	return err
}

// vacated returns the point after which the slot of an earlier load may be overwritten.
func (l *mappedLoader) vacated(n int) (p engine.Point, err error) {
	if n < 0 {
		return p, nil
	}
	err = l.await(func() (ok bool) {
		if p, ok = l.vacant[n]; ok {
			delete(l.vacant, n)
		}
		return ok
	})
	return p, err
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

func (l *mappedLoader) released(n int, after engine.Point) (err error) {
	l.set(func() {
		l.vacant[n] = after
		err = l.err
	})
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
	l.set(func() { l.closing = true })
	l.cancel()
	l.done.Wait()
	l.letGo()
}

func (l *mappedLoader) free() {
	for _, region := range l.ring {
		l.swapper.device.FreeRegion(region)
	}
	l.ring = nil
	l.kept.free(l.swapper)
}
