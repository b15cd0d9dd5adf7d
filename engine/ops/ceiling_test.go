package ops

import (
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// A ceiling is worth something only if the work was done: every word of every subgroup is compared, and what is behind the last
// must be left alone.
func TestCeilingsDoTheirWork(t *testing.T) {
	d := enginetest.Open(t)
	caps := d.Caps()
	kinds := Ceilings(caps)
	if wantMatrices := caps.Tier >= engine.TierMatrix; (len(kinds) > 1) != wantMatrices {
		t.Errorf("tier %v has %d ceilings", caps.Tier, len(kinds))
	}
	for _, kind := range kinds {
		for _, frags := range CeilingFragments(caps, kind) {
			for _, rounds := range []int{1, 7, 3000} {
				c := Ceiling{Kind: kind, Groups: 3, Rounds: rounds, Frags: frags}
				words := runCeiling(t, d, c)
				per := c.Words(caps)
				for s := range c.Subgroups(caps) {
					if err := c.Check(caps, s, words[s*per:(s+1)*per]); err != nil {
						t.Fatalf("%v, %+v, %d rounds: %v", kind, frags, rounds, err)
					}
				}
				for _, w := range words[c.Subgroups(caps)*per:] {
					if w != 0xabcd {
						t.Fatalf("%v: words behind the last subgroup's were written", kind)
					}
				}
			}
		}
	}
}

func runCeiling(t *testing.T, d *engine.Device, c Ceiling) []uint32 {
	t.Helper()
	caps := d.Caps()
	a := d.NewArena("ceiling")
	defer a.Release()
	operands := c.Operands(caps)
	out, in := a.Alloc("sums", engine.U32, c.Subgroups(caps)*c.Words(caps)+64), a.Alloc("operands", engine.U8, len(operands))
	if err := a.Err(); err != nil {
		t.Fatal(err)
	}
	if err := d.Upload(t.Context(), in, operands); err != nil {
		t.Fatal(err)
	}
	d.Compute().Fill(out, 0xabcd)
	c.Record(d.Compute(), out, in)
	words, err := d.DownloadU32(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	return words
}

func TestACeilingThatDidLessIsFoundOut(t *testing.T) {
	d := enginetest.Open(t)
	caps := d.Caps()
	for _, kind := range Ceilings(caps) {
		c := Ceiling{Kind: kind, Groups: 1, Rounds: 64, Frags: CeilingFragments(caps, kind)[0]}
		words := runCeiling(t, d, c)[:c.Words(caps)]
		if kind != CeilingFMA { // whose values nearly repeat after two rounds
			less := c
			less.Rounds = 63
			if err := less.Check(caps, 0, words); err == nil {
				t.Errorf("%v: a round more or less is not found", kind)
			}
		}
		words[0] ^= 1 << 24
		if err := c.Check(caps, 0, words); err == nil || !strings.Contains(err.Error(), "subgroup 0") {
			t.Errorf("%v: a wrong word is not found: %v", kind, err)
		}
	}
}
