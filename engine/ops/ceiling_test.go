package ops

import (
	"math"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// A ceiling is worth something only if the work was done.
func TestCeilingsDoTheirWork(t *testing.T) {
	d := enginetest.Open(t)
	caps := d.Caps()
	kinds := Ceilings(caps)
	if wantMatrices := caps.Tier >= engine.TierMatrix; (len(kinds) > 1) != wantMatrices {
		t.Errorf("tier %v has %d ceilings", caps.Tier, len(kinds))
	}
	for _, kind := range kinds {
		for _, rounds := range []int{1, 7, 64} {
			c := Ceiling{Kind: kind, Groups: 3, Rounds: rounds, A: 0.5, B: 0.25}
			if kind == CeilingI8 {
				c.A, c.B = 3, -5
			}
			out, err := d.Alloc("sums", engine.F32, c.Invocations(caps)+5)
			if err != nil {
				t.Fatal(err)
			}
			d.Compute().Fill(out, math.Float32bits(-1))
			c.Record(d.Compute(), out)
			got, err := d.DownloadF32(t.Context(), out)
			if err != nil {
				t.Fatal(err)
			}
			d.Free(out)
			want := c.Want(caps)
			for k, v := range got {
				expected := want
				if k >= c.Invocations(caps) {
					expected = -1
				}
				if !(math.Abs(float64(v-expected)) <= 1e-5*math.Abs(float64(expected))) {
					t.Fatalf("%v, %d rounds: word %d of %d is %g, want %g", kind, rounds, k, c.Invocations(caps), v, expected)
				}
			}
		}
	}
}
