package progress

import (
	"testing"
	"time"
)

func TestTheNumberOfStepsMayComeLater(t *testing.T) {
	f, r := newFake(Plain, 80)
	r.Total(9) // no stage yet: nothing to correct
	r.Stage("decode", 0)
	r.Total(2)
	f.advance(time.Second)
	r.Step(1)
	f.advance(time.Second)
	r.Step(2)
	r.Done()
	expect(t, f, "decode ...", "decode 2/2: 2.0 s, 1.0 s/step", "")
}

func TestStepsDoneBeforeTakeNoTime(t *testing.T) {
	f, r := newFake(Line, 60)
	defer r.Close()
	r.Stage("denoise", 50)
	r.From(30)
	f.advance(9 * time.Second)
	r.Step(31)
	f.advance(2 * time.Second)
	r.Step(32)
	r.Tick()
	expect(t, f, "denoise 32/50  [############-------]  36 s left  2.0 s/step")
}
