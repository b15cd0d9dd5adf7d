package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// Options says where and how progress is shown. The zero value is standard error, a redrawn line when that is a
// terminal.
type Options struct {
	Out      io.Writer        // nil: os.Stderr
	Mode     Mode             // how to show it
	Width    func() int       // columns of the terminal; nil: asked of Out; below 1: taken as 80
	Now      func() time.Time // nil: time.Now
	Every    time.Duration    // least time between plain lines within a stage; 0: 15 s
	NoTicker bool             // do not redraw between steps; the caller calls Tick
}

// Mode chooses between a redrawn line and plain lines.
type Mode int

// The modes.
const (
	Auto  Mode = iota // a redrawn line on a terminal, plain lines elsewhere
	Line              // always a redrawn line
	Plain             // always plain lines
)

const (
	defaultEvery = 15 * time.Second
	redrawEvery  = 100 * time.Millisecond // no faster than this, however short the steps
	tickEvery    = time.Second            // no slower than this, however long they are
)

// Reporter shows the progress of one run, stage after stage.
type Reporter struct {
	opt  Options
	line bool

	// out is held while something is written: a terminal may take its time, as for a picture. It is taken before mu, or only
	// if it is free, and mu is not held while writing, so that a step never waits for the terminal.
	out     sync.Mutex
	mu      sync.Mutex      // guards what follows
	text    strings.Builder // what is to be written next
	stage   *stage
	memory  int64  // bytes, 0 when unknown
	note    string // of the stage, and of the next
	drawn   int    // columns the line on the screen takes
	shownAt time.Time
	stop    chan struct{}
	stopped sync.WaitGroup
}

// stage is one part of the run.
type stage struct {
	name        string
	done, total int // total 0: unknown
	from        int // steps that were done before the stage began, which took it no time
	begin       time.Time
	firstDone   time.Time // when its first step was done: it is left out of the rate, as it warms things up
	lastDone    time.Time
	peak        int64
	note        string // what it waits for
}

// New returns a reporter. Close it.
func New(opt Options) *Reporter {
	if opt.Out == nil {
		opt.Out = os.Stderr
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Every == 0 {
		opt.Every = defaultEvery
	}
	f, isFile := opt.Out.(*os.File)
	terminal := IsTerminal(opt.Out)
	if opt.Width == nil {
		opt.Width = func() int {
			if !isFile {
				return 0
			}
			w, _, err := term.GetSize(int(f.Fd()))
			if err != nil {
				return 0
			}
			return w
		}
	}
	r := &Reporter{opt: opt, line: opt.Mode == Line || opt.Mode == Auto && terminal}
	if r.line && !opt.NoTicker {
		r.stop = make(chan struct{})
		stop := r.stop
		r.stopped.Go(func() { r.tick(stop) })
	}
	return r
}

// IsTerminal reports whether what is written to w can be redrawn.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

func (r *Reporter) tick(stop <-chan struct{}) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			r.Tick()
		}
	}
}

// Tick redraws the line, so that the time left counts down while a step takes long. A reporter with a ticker calls
// it by itself.
func (r *Reporter) Tick() {
	if r == nil {
		return
	}
	if !r.out.TryLock() {
		return
	}
	defer r.out.Unlock()
	r.writeHolding(r.redraw)
}

// Stage ends the stage before and begins one of total steps; 0 when the number is not known or there are none.
func (r *Reporter) Stage(name string, total int) {
	if r == nil {
		return
	}
	r.write(func() {
		r.end()
		now := r.opt.Now()
		r.stage = &stage{name: name, total: max(total, 0), begin: now, peak: r.memory, note: r.note}
		r.shownAt = now
		if r.line {
			r.draw()
		} else {
			r.print(r.stage.name + " ...")
		}
	})
}

// Step says that done steps of the stage are finished.
func (r *Reporter) Step(done int) {
	if r == nil {
		return
	}
	if !r.stepped(done) || !r.out.TryLock() {
		return
	}
	defer r.out.Unlock()
	r.writeHolding(func() {
		switch {
		case r.stage == nil: // it ended meanwhile
		case r.line:
			r.draw()
		default:
			r.shownAt = r.opt.Now()
			r.print(r.stage.text(r.shownAt, r.memory, unlimited))
		}
	})
}

// stepped counts steps and says whether it is time to show them.
func (r *Reporter) stepped(done int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stage
	if s == nil || done <= s.done {
		return false
	}
	now := r.opt.Now()
	if s.done == s.from && done == s.from+1 {
		s.firstDone = now
	}
	s.done, s.lastDone = done, now
	since := now.Sub(r.shownAt)
	return r.line && since >= redrawEvery || !r.line && since >= r.opt.Every && done != s.total // the last step's line is the stage's own
}

// From says that steps of the stage were done before it began, as in a run that is continued.
func (r *Reporter) From(done int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stage != nil {
		r.stage.from, r.stage.done = done, done
	}
}

// Memory says how many bytes of device memory are in use.
func (r *Reporter) Memory(bytes int64) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory = bytes
	if r.stage != nil {
		r.stage.peak = max(r.stage.peak, bytes)
	}
}

// Note says what the work waits for, "" for nothing, until the next note. It stands behind the stage's name; where lines are not
// redrawn, it is printed no more often than they are.
func (r *Reporter) Note(text string) {
	if r == nil || !r.noted(text) || !r.out.TryLock() {
		return
	}
	defer r.out.Unlock()
	r.writeHolding(func() {
		switch {
		case r.stage == nil: // it ended meanwhile
		case r.line:
			r.draw()
		default:
			r.shownAt = r.opt.Now()
			r.print(r.stage.text(r.shownAt, r.memory, unlimited))
		}
	})
}

// noted keeps a note and says whether it is time to show it.
func (r *Reporter) noted(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.note != text
	r.note = text
	if r.stage == nil || !changed {
		return false
	}
	r.stage.note = text
	since := r.opt.Now().Sub(r.shownAt)
	return r.line && since >= redrawEvery || !r.line && text != "" && since >= r.opt.Every
}

// Logf prints a line of its own; a redrawn line stays below it.
func (r *Reporter) Logf(format string, args ...any) {
	if r == nil {
		return
	}
	r.write(func() {
		r.erase()
		r.print(fmt.Sprintf(format, args...))
		r.redraw()
	})
}

// Done ends the stage and says how long it took.
func (r *Reporter) Done() {
	if r == nil {
		return
	}
	r.write(r.end)
}

// Close takes an unfinished line off the screen and stops redrawing. It may be called twice; a stage that was not
// ended with Done, because the run failed, is not reported as done.
func (r *Reporter) Close() {
	if r == nil {
		return
	}
	var stop chan struct{}
	r.write(func() {
		r.erase()
		stop, r.stage, r.stop = r.stop, nil, nil
	})
	if stop != nil {
		close(stop)
		r.stopped.Wait()
	}
}

// write lets compose say what is to be written, and writes it.
func (r *Reporter) write(compose func()) {
	r.out.Lock()
	defer r.out.Unlock()
	r.writeHolding(compose)
}

// writeHolding is write for who holds out. Nothing can be done about a standard error that takes nothing.
func (r *Reporter) writeHolding(compose func()) {
	r.mu.Lock()
	compose()
	text := r.text.String()
	r.text.Reset()
	r.mu.Unlock()
	if text != "" {
		_, _ = io.WriteString(r.opt.Out, text)
	}
}

// redraw draws the line where there is one. The lock is held, as for all below.
func (r *Reporter) redraw() {
	if r.line && r.stage != nil {
		r.draw()
	}
}

// end prints the summary of the stage there is.
func (r *Reporter) end() {
	if r.stage == nil {
		return
	}
	r.erase()
	r.print(r.stage.summary(r.opt.Now()))
	r.stage = nil
}

// draw replaces the line on the screen. The last column stays free: writing there makes some consoles wrap.
func (r *Reporter) draw() {
	now := r.opt.Now()
	r.shownAt = now
	width := r.opt.Width()
	if width < 1 {
		width = 80
	}
	text := r.stage.text(now, r.memory, width-1)
	n := len([]rune(text))
	r.text.WriteString("\r" + text + strings.Repeat(" ", min(max(r.drawn-n, 0), max(width-1-n, 0))))
	r.drawn = n
}

func (r *Reporter) erase() {
	if r.drawn > 0 {
		r.text.WriteString("\r" + strings.Repeat(" ", r.drawn) + "\r")
		r.drawn = 0
	}
}

// print writes a line.
func (r *Reporter) print(text string) { r.text.WriteString(text + "\n") }
