package swap

import "time"

// costs are what the parts of a pass take.
type costs struct {
	compute []time.Duration // by block
	load    time.Duration   // of one block, while the bus is busy without a break
	shared  bool            // loads and compute take turns
}

// measuredCosts averages what was measured. A block that was not measured computes as long as the others do.
func measuredCosts(r Run, t Timing, bound Bound) costs {
	c := costs{compute: make([]time.Duration, r.Plan.Blocks), shared: r.Shared}
	count := make([]int, r.Plan.Blocks)
	for _, u := range r.Intervals.Uses {
		if u.Block < len(count) {
			c.compute[u.Block] += nanoseconds(u.End - u.Begin)
			count[u.Block]++
		}
	}
	for b, n := range count {
		if n > 0 {
			c.compute[b] /= time.Duration(n)
		} else {
			c.compute[b] = t.Compute / time.Duration(max(t.Blocks, 1))
		}
	}
	if t.Copies > 0 {
		c.load = t.Copying / time.Duration(t.Copies)
		if bound == ReadBound { // a load takes what the host needs for it, not only the copy
			c.load = (t.Copying + t.TransferIdle) / time.Duration(t.Copies)
		}
	}
	return c
}

// Waiting predicts how much longer a pass takes than its computing, when each block computes for so long and is copied in so
// long. shared says that copies and kernels take turns on one queue.
func (p Plan) Waiting(compute, load time.Duration, shared bool) time.Duration {
	c := costs{compute: make([]time.Duration, p.Blocks), load: load, shared: shared}
	for b := range c.compute {
		c.compute[b] = compute
	}
	return c.waiting(p)
}

// waiting replays passes under a plan and returns how much longer one takes than its computing.
func (c costs) waiting(p Plan) time.Duration {
	if len(p.Streamed) == 0 {
		return 0
	}
	if c.shared {
		return time.Duration(len(p.Streamed)) * c.load
	}
	const passes = 4 // the last of which is in the steady state
	var now, bus, begun time.Duration
	ready := make([]time.Duration, p.Stream) // when load n is over, at n mod Stream
	load := func(n int, free time.Duration) {
		bus = max(bus, free) + c.load
		ready[n%p.Stream] = bus
	}
	next := 0
	for n := range p.Stream {
		load(n, 0)
	}
	for range passes {
		begun = now
		for b, home := range p.Home {
			if home < 0 {
				now = max(now, ready[next%p.Stream])
			}
			now += c.compute[b]
			if home < 0 {
				load(next+p.Stream, now)
				next++
			}
		}
	}
	var computing time.Duration
	for _, d := range c.compute {
		computing += d
	}
	return now - begun - computing
}
