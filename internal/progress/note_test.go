package progress

import (
	"testing"
	"time"
)

func TestANoteSaysWhatTheWorkWaitsFor(t *testing.T) {
	f, r := newFake(Line, 100)
	r.Note("compiling 9 kernels")
	r.Stage("load transformer", 0)
	expect(t, f, "load transformer  compiling 9 kernels  0.0 s")
	r.Note("compiling 8 kernels") // too soon to be drawn
	f.advance(time.Second)
	r.Note("reading 1.00 GiB of 34.20 GiB, compiling 7 kernels")
	expect(t, f, "load transformer  reading 1.00 GiB of 34.20 GiB, compiling 7 kernels  1.0 s")
	f.advance(time.Second)
	r.Note("")
	expect(t, f, "load transformer  2.0 s")
	r.Done()
	expect(t, f, "load transformer: 2.0 s", "")
}

func TestNotesAreRareWhereLinesStay(t *testing.T) {
	f, r := newFake(Plain, 100)
	r.Stage("load transformer", 0)
	r.Note("compiling 9 kernels")
	f.advance(20 * time.Second)
	r.Note("compiling 8 kernels")
	f.advance(time.Second)
	r.Note("compiling 7 kernels")
	f.advance(20 * time.Second)
	r.Note("")
	r.Done()
	expect(t, f, "load transformer ...", "load transformer: compiling 8 kernels, 20 s", "load transformer: 41 s", "")
}
