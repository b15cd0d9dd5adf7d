package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// How long examinations may take. Compiling kernels is told apart from measuring, because a driver that has never seen
// them may need longer for them than everything else takes: it uses up the limit of the whole, not the time to measure.
const (
	probeMeasure = 2 * time.Minute  // of one probe, without compiling
	probeWhole   = 6 * time.Minute  // of one probe, all in all
	quickMeasure = 9 * time.Second  // of all probes of a quick examination together, without compiling
	quickWhole   = 40 * time.Second // of all of them, all in all
	quickReserve = 700 * time.Millisecond
)

// limits bound an examination.
type limits struct {
	measure, whole           time.Duration // of all probes together; 0: none
	probeMeasure, probeWhole time.Duration // of one
	reserve                  time.Duration // of measuring that is left to each probe that follows
}

func usualLimits(quick bool) limits {
	if quick {
		return limits{measure: quickMeasure, whole: quickWhole, probeMeasure: quickMeasure, probeWhole: quickWhole, reserve: quickReserve}
	}
	return limits{probeMeasure: probeMeasure, probeWhole: probeWhole}
}

// clock keeps the time of an examination.
type clock struct {
	limits
	now                 func() time.Time
	timeout             func(context.Context, time.Duration) (context.Context, context.CancelFunc)
	started             time.Time
	compiling, examined time.Duration // so far
}

func newClock(o Options) *clock {
	c := &clock{limits: usualLimits(o.Quick), now: o.now, timeout: o.timeout}
	if o.limits != nil {
		c.limits = *o.limits
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.timeout == nil {
		c.timeout = context.WithTimeout
	}
	c.started = c.now()
	return c
}

// spent says why no further probe is carried out, "" where there is time.
func (c *clock) spent() string {
	total := c.now().Sub(c.started)
	switch {
	case c.whole > 0 && total >= c.whole:
		text := fmt.Sprintf("skipped: the %s that a quick examination takes at most are over", brief(c.whole))
		if c.compiling > 0 {
			text += fmt.Sprintf(", %s of them went into compiling kernels", brief(c.compiling))
		}
		return text
	case c.measure > 0 && c.examined >= c.measure:
		return fmt.Sprintf("skipped: the %s of measuring of a quick examination are used up", brief(c.measure))
	}
	return ""
}

// next is how long the next probe may measure and how long it may take in all, when so many follow it.
func (c *clock) next(after int) (measure, whole time.Duration) {
	measure, whole = c.probeMeasure, c.probeWhole
	if c.measure > 0 {
		measure = min(measure, max(c.measure-c.examined-time.Duration(after)*c.reserve, c.reserve))
	}
	if c.whole > 0 {
		whole = max(min(whole, c.whole-c.now().Sub(c.started)), time.Second/4)
	}
	return measure, whole
}

// took notes what a probe took from its start on, and what of that went into compiling.
func (c *clock) took(start time.Time, results []Result) {
	all, compiling := c.now().Sub(start), time.Duration(0)
	for _, r := range results {
		compiling += r.Compiling
	}
	compiling = min(compiling, all)
	c.compiling += compiling
	c.examined += all - compiling
}

// brief prints a duration of seconds.
func brief(d time.Duration) string { return seconds(d.Seconds()) }

// left tells how long a probe may go on measuring; it always may where there is no limit.
type left struct {
	start   time.Time
	measure time.Duration
}

// over says that time is up: what went into compiling does not count.
func (l left) over(compiling time.Duration) bool {
	return l.measure > 0 && time.Since(l.start)-compiling > l.measure
}

// ranOut says that an error is the end of a probe's time.
func ranOut(ctx context.Context, err error) bool {
	return errors.Is(err, context.DeadlineExceeded) && errors.Is(ctx.Err(), context.DeadlineExceeded)
}
