package engine

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Compiling are pipelines that are being made on all cores at once.
type Compiling struct {
	Count int // of pipelines that work needs and that were not there

	done    chan struct{} // closed when the last has been made
	started time.Time

	mu   sync.Mutex // guards what follows
	took time.Duration
	err  error
}

// Compile begins to make the pipelines that work would need, on as many cores as there are and in the order in which work
// asks for them, and returns at once. work records on a stream that only takes notes: nothing is computed, so its tensors
// need no contents, and what it records later waits for nothing but the pipelines of its own. A driver that compiles with
// the first dispatch instead (Mesa's llvmpipe does) has little to do here. When the context ends no more are begun;
// those that a driver is at cannot be stopped, and Close waits for them.
func (d *Device) Compile(ctx context.Context, work func(s *Stream)) *Compiling {
	var calls []Call
	notes := &Stream{Name: "notes", device: d, notes: &calls}
	work(notes)
	c := &Compiling{done: make(chan struct{}), started: time.Now()}
	queue := make(chan Call, len(calls))
	seen := map[pipelineKey]bool{}
	for _, call := range calls {
		if key := keyOf(call); !seen[key] && !d.pipelines.has(key) {
			seen[key] = true
			queue <- call
		}
	}
	close(queue)
	c.Count = len(queue)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), c.Count) {
		workers.Go(func() {
			for call := range queue {
				if ctx.Err() != nil {
					return
				}
				_, err := d.pipelines.get(call)
				c.note(err)
			}
		})
	}
	go func() {
		workers.Wait()
		d.pipelines.save() // whoever is interrupted now need not compile again
		if c.Count > 0 {
			c.note(ctx.Err())
		}
		close(c.done)
	}()
	return c
}

// Unused is a small tensor of the device that nobody reads or writes: it can stand for tensors of any size in work for
// Compile.
func (d *Device) Unused() Tensor { return d.dummy }

// note keeps the first error and the time until now.
func (c *Compiling) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.took = time.Since(c.started)
}

// Wait returns when all are made, with the first error, or when the context ends, with the context's.
func (c *Compiling) Wait(ctx context.Context) error {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Took is the time from the start to the last pipeline that is made.
func (c *Compiling) Took() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took
}
