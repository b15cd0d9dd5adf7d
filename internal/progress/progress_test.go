package progress

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fake is a clock and a screen. The screen understands what consoles do with \r and \n.
type fake struct {
	now   time.Time
	width int
	raw   bytes.Buffer
}

func (f *fake) Write(p []byte) (int, error) { return f.raw.Write(p) }

func (f *fake) advance(d time.Duration) { f.now = f.now.Add(d) }

// screen returns the lines a terminal of the fake's width shows; text past its edge would wrap.
func (f *fake) screen(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, line := range strings.Split(f.raw.String(), "\n") {
		var cells []rune
		at := 0
		for _, c := range line {
			if c == '\r' {
				at = 0
				continue
			}
			if c < ' ' {
				t.Fatalf("control character %q in %q", c, line)
			}
			if at >= len(cells) {
				cells = append(cells, c)
			} else {
				cells[at] = c
			}
			at++
		}
		lines = append(lines, strings.TrimRight(string(cells), " "))
	}
	return lines
}

func newFake(mode Mode, width int) (*fake, *Reporter) {
	f := &fake{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), width: width}
	r := New(Options{Out: f, Mode: mode, Width: func() int { return f.width }, Now: func() time.Time { return f.now }, NoTicker: true})
	return f, r
}

func expect(t *testing.T, f *fake, want ...string) {
	t.Helper()
	if got := f.screen(t); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("screen:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheLineIsRedrawnInPlace(t *testing.T) {
	f, r := newFake(Line, 100)
	r.Memory(9126805504)
	r.Stage("denoise", 50)
	expect(t, f, "denoise 0/50  [------------------------------]  0.0 s  8.5 GiB")
	f.advance(30 * time.Second) // the first step warms up and is left out of the rate
	r.Step(1)
	f.advance(7400 * time.Millisecond)
	r.Step(2)
	expect(t, f, "denoise 2/50  [#-----------------------------]  5 min 55 s left  7.4 s/step  8.5 GiB")
	f.advance(5 * time.Second)
	r.Tick()
	expect(t, f, "denoise 2/50  [#-----------------------------]  5 min 50 s left  7.4 s/step  8.5 GiB")
	r.Logf("a line of its %s", "own")
	expect(t, f, "a line of its own", "denoise 2/50  [#-----------------------------]  5 min 50 s left  7.4 s/step  8.5 GiB")
	f.advance(5 * time.Minute)
	r.Step(50)
	r.Done()
	expect(t, f, "a line of its own", "denoise 50/50: 5 min 42 s, 6.4 s/step, at most 8.5 GiB", "")
}

func TestAShorterLineLeavesNothingOfTheLonger(t *testing.T) {
	f, r := newFake(Line, 100)
	r.Stage("a long name of a stage", 10)
	r.Stage("b", 0)
	expect(t, f, "a long name of a stage: 0.0 s", "b  0.0 s")
	r.Memory(24 << 30)
	r.Tick()
	expect(t, f, "a long name of a stage: 0.0 s", "b  0.0 s  24.0 GiB")
	r.Memory(0)
	r.Tick()
	expect(t, f, "a long name of a stage: 0.0 s", "b  0.0 s")
	r.Close()
	expect(t, f, "a long name of a stage: 0.0 s", "")
}

func TestNarrowTerminalsAreNeverOverrun(t *testing.T) {
	for width := 1; width <= 120; width++ {
		f, r := newFake(Line, width)
		r.Memory(24 << 30)
		r.Stage("denoise", 50)
		for i := 1; i <= 3; i++ {
			f.advance(90 * time.Second)
			r.Step(i)
		}
		for _, line := range f.screen(t) {
			if n := len([]rune(line)); n >= width && n > 0 {
				t.Fatalf("%d columns on a terminal of %d: %q", n, width, line)
			}
		}
		last := f.screen(t)[0]
		for _, part := range []struct {
			from int
			text string
		}{{14, "denoise 3/50"}, {32, "1 h 10 min left"}, {46, "90.0 s/step"}, {56, "24.0 GiB"}, {90, "[#-----"}} {
			if width >= part.from && !strings.Contains(last, part.text[:min(len(part.text), 4)]) {
				t.Errorf("width %d lacks %q: %q", width, part.text, last)
			}
		}
	}
	f, r := newFake(Line, 0) // unknown
	r.Stage("vae", 4)
	if n := len(f.screen(t)[0]); n > 79 {
		t.Errorf("%d columns where the width is unknown", n)
	}
}

func TestRedrawingIsLimited(t *testing.T) {
	f, r := newFake(Line, 80)
	r.Stage("fast", 10000)
	for i := range 10000 {
		f.advance(time.Millisecond)
		r.Step(i + 1)
	}
	if n := strings.Count(f.raw.String(), "\r"); n > 105 {
		t.Errorf("drawn %d times in 10 s", n)
	}
}

func TestPlainLinesComeAtASaneRate(t *testing.T) {
	f, r := newFake(Plain, 0)
	r.Memory(512 << 20)
	r.Stage("text", 0)
	f.advance(2 * time.Second)
	r.Stage("denoise", 50)
	for i := range 50 {
		f.advance(4 * time.Second)
		r.Step(i + 1)
		r.Tick()
	}
	r.Done()
	r.Close()
	out := f.raw.String()
	if strings.Contains(out, "\r") {
		t.Errorf("carriage returns in plain output: %q", out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3+12+1 { // three of begin and end, one every 16 s within 196 s, the end
		t.Errorf("%d lines:\n%s", len(lines), out)
	}
	want := []string{"text ...", "text: 2.0 s, at most 512 MiB", "denoise ...", "denoise 4/50: 3 min 04 s left, 4.0 s/step, 512 MiB"}
	if got := lines[:4]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
	if last := lines[len(lines)-1]; last != "denoise 50/50: 3 min 20 s, 4.0 s/step, at most 512 MiB" {
		t.Errorf("last line %q", last)
	}
}

func TestAFailedStageIsNotReportedAsDone(t *testing.T) {
	f, r := newFake(Line, 80)
	r.Stage("denoise", 50)
	r.Step(1)
	r.Close()
	r.Close()
	r.Step(2)
	r.Tick()
	expect(t, f, "")
}

func TestStepsNeverGoBack(t *testing.T) {
	f, r := newFake(Line, 80)
	r.Step(3) // no stage yet
	r.Stage("x", 10)
	f.advance(time.Second)
	r.Step(5)
	f.advance(time.Second)
	r.Step(4)
	r.Step(12)
	r.Tick()
	if got := f.screen(t)[0]; !strings.HasPrefix(got, "x 10/10  [####") {
		t.Errorf("got %q", got)
	}
}

func TestANilReporterDoesNothing(t *testing.T) {
	var r *Reporter
	r.Stage("x", 1)
	r.Step(1)
	r.Memory(1)
	r.Logf("x")
	r.Tick()
	r.Done()
	r.Close()
}

func TestAFileGetsPlainLines(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := New(Options{Out: file})
	r.Stage("x", 3)
	r.Done()
	r.Close()
	data, err := os.ReadFile(file.Name())
	if err != nil || !strings.HasPrefix(string(data), "x ...\nx: 0.0 s\n") {
		t.Errorf("%q, %v", data, err)
	}
}

// locked lets the race detector see the reporter, not the buffer.
type locked struct {
	sync.Mutex
	n int
}

func (l *locked) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	l.n += len(p)
	return len(p), nil
}

func TestConcurrentUseWithTheTickerRunning(t *testing.T) {
	out := &locked{}
	r := New(Options{Out: out, Mode: Line})
	r.Stage("x", 400)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 100 {
				r.Step(g*100 + i)
				r.Memory(int64(i))
				if i%25 == 0 {
					r.Logf("%d", i)
				}
			}
		})
	}
	wg.Wait()
	r.Done()
	r.Close()
	if out.n == 0 {
		t.Error("nothing was written")
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0 s", 9940 * time.Millisecond: "9.9 s", 9960 * time.Millisecond: "10 s", 59400 * time.Millisecond: "59 s",
		59600 * time.Millisecond: "1 min 00 s", 61 * time.Second: "1 min 01 s", 3599600 * time.Millisecond: "1 h 00 min",
		26*time.Hour + 5*time.Minute: "26 h 05 min",
	} {
		if got := clock(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{1: "0 MiB", 1 << 20: "1 MiB", 1<<30 - 1: "1024 MiB", 3 << 29: "1.5 GiB"} {
		if got := size(n); got != want {
			t.Errorf("%d bytes are %q, want %q", n, got, want)
		}
	}
}

// slowTerminal takes a text when it is told to.
type slowTerminal struct{ asked, goOn chan struct{} }

func (s slowTerminal) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "picture") {
		close(s.asked)
		<-s.goOn
	}
	return len(p), nil
}

func TestStepsDoNotWaitForTheTerminal(t *testing.T) {
	out := slowTerminal{make(chan struct{}), make(chan struct{})}
	var now atomic.Int64
	r := New(Options{Out: out, Mode: Line, NoTicker: true, Now: func() time.Time { return time.Unix(now.Add(1), 0) }})
	r.Stage("denoise", 3)
	done := make(chan struct{})
	go func() { r.Logf("a large picture"); close(done) }()
	<-out.asked
	steps := make(chan struct{})
	go func() {
		r.Memory(1)
		r.Total(3)
		r.Step(1)
		r.Tick()
		close(steps)
	}()
	select {
	case <-steps:
	case <-time.After(time.Minute):
		t.Fatal("a step waits for the terminal")
	}
	close(out.goOn)
	<-done
	r.Done()
	r.Close()
}
