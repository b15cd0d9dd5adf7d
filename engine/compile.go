package engine

import (
	"context"
	"runtime"
	"sync"
	"time"
)

// Compiling are pipelines that are being made beside other work, several at once.
type Compiling struct {
	device  *Device
	ctx     context.Context
	cancel  context.CancelFunc
	limit   int           // of goroutines that make pipelines
	yields  bool          // their threads yield to all others of the process
	done    chan struct{} // closed when the last has been made
	started time.Time

	mu            sync.Mutex // guards what follows
	seen          map[pipelineKey]bool
	queue         []Call
	workers       int
	noted         bool // nothing more comes
	count, making int
	took          time.Duration
	err           error
}

// Compile begins to make the pipelines that work would need, on as many cores as there are and in the order in which work
// asks for them, and returns at once. work records on a stream that only takes notes: nothing is computed, so its tensors
// need no contents, and what it records later waits for nothing but the pipelines of its own. A driver that compiles with
// the first dispatch instead (Mesa's llvmpipe does) has little to do here. When the context ends no more are begun;
// those that a driver is at cannot be stopped, and Close waits for them.
func (d *Device) Compile(ctx context.Context, work func(s *Stream)) *Compiling {
	c := d.newCompiling(ctx, runtime.GOMAXPROCS(0), false)
	work(&Stream{Name: "notes", device: d, note: c.add})
	c.end(nil)
	return c
}

func (d *Device) newCompiling(ctx context.Context, limit int, yields bool) *Compiling {
	c := &Compiling{device: d, limit: limit, yields: yields, done: make(chan struct{}), started: time.Now(), seen: map[pipelineKey]bool{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// add lets the pipeline of a call be made, unless it is there or somebody is at it.
func (c *Compiling) add(call Call) {
	key := keyOf(call)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen[key] {
		return
	}
	c.seen[key] = true
	if c.device.pipelines.has(key) {
		return
	}
	c.count++
	c.queue = append(c.queue, call)
	if c.workers < c.limit {
		c.workers++
		go c.work()
	}
}

// work makes pipelines until the queue is empty.
func (c *Compiling) work() {
	if c.yields {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		yieldThread()
	}
	for {
		c.mu.Lock()
		if len(c.queue) == 0 || c.ctx.Err() != nil {
			c.workers--
			c.finish()
			c.mu.Unlock()
			return
		}
		call := c.queue[0]
		c.queue = c.queue[1:]
		c.making++
		c.mu.Unlock()
		_, err := c.device.pipelines.get(call, false)
		c.mu.Lock()
		c.making--
		c.keep(err)
		c.took = time.Since(c.started)
		c.mu.Unlock()
	}
}

// end says that no more calls come.
func (c *Compiling) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(err)
	c.noted = true
	c.finish()
}

// finish closes done once all is over. The lock is held.
func (c *Compiling) finish() {
	if !c.noted || c.workers > 0 {
		return
	}
	if c.count > 0 {
		c.keep(c.ctx.Err())
	}
	c.queue, c.seen = nil, nil
	c.cancel()
	go func() {
		c.device.pipelines.save() // whoever is interrupted now need not compile again
		close(c.done)
	}()
}

// keep keeps the first error. The lock is held.
func (c *Compiling) keep(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Main returns the shader variant in which most of work's operations are done, "" for work without calls. Nothing is computed.
func (d *Device) Main(work func(s *Stream)) string {
	cost, most := map[string]float64{}, ""
	work(&Stream{Name: "notes", device: d, note: func(c Call) {
		if cost[c.Shader] += c.Cost; most == "" || cost[c.Shader] > cost[most] {
			most = c.Shader
		}
	}})
	return most
}

// Unused is a small tensor of the device that nobody reads or writes: it can stand for tensors of any size in work for
// Compile.
func (d *Device) Unused() Tensor { return d.dummy }

// Count is how many pipelines work needs, as far as it has been noted, that were not there.
func (c *Compiling) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// Left is how many of them are still to be made.
func (c *Compiling) Left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue) + c.making
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

// Stop begins no more pipelines and waits for those that the driver is at.
func (c *Compiling) Stop() {
	c.cancel()
	<-c.done
}

// Took is the time from the start to the last pipeline that is made.
func (c *Compiling) Took() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.took
}
