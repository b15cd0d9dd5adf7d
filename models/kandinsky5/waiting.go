package kandinsky5

import (
	"sync/atomic"
	"time"
)

// reading is how much of the transformer has been read, while it is.
type reading struct{ done, total atomic.Int64 }

func (r *reading) set(done, total int64) {
	r.total.Store(total)
	r.done.Store(done)
}

// waiting says what the run waits for.
func (g *run) waiting() Waiting {
	return Waiting{Read: g.reading.done.Load(), ToRead: g.reading.total.Load(), Compiling: g.compiling.Left()}
}

// tellEvery is how often Request.Waiting is told.
const tellEvery = 250 * time.Millisecond

// tellWaiting tells Request.Waiting whatever has changed, until the function that it returns is called.
func (g *run) tellWaiting() (stop func()) {
	if g.request.Waiting == nil {
		return func() {}
	}
	over, silent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(silent)
		tick := time.NewTicker(tellEvery)
		defer tick.Stop()
		told, ended := Waiting{}, false
		for !ended {
			now := Waiting{}
			select {
			case <-over:
				ended = true
			case <-tick.C:
				now = g.waiting()
			}
			if now != told {
				g.request.Waiting(now)
				told = now
			}
		}
	}()
	return func() {
		close(over)
		<-silent
	}
}
