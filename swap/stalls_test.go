package swap

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/engine"
)

// at is a mark: a span of no length.
func at(ns float64, format string, args ...any) engine.Span {
	return engine.Span{Label: fmt.Sprintf(format, args...), Start: ns, End: ns}
}

func framed(kind string, block int, begin, end float64) []engine.Span {
	return []engine.Span{at(begin, "%s %d begin", kind, block), at(end, "%s %d end", kind, block)}
}

func spans(lists ...[]engine.Span) (all []engine.Span) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestStalls(t *testing.T) {
	for _, c := range []struct {
		name              string
		compute, transfer []engine.Span
		want              Timing
	}{
		{name: "nothing measured"},
		{
			name:     "copies hidden behind compute cost nothing",
			compute:  spans(framed("block", 0, 0, 100), framed("block", 1, 100, 200), framed("block", 2, 201, 300)),
			transfer: spans(framed("copy", 1, 0, 60), framed("copy", 2, 100, 170)),
			want:     Timing{Blocks: 3, Copies: 2, Gap: 1, Compute: 299, Copying: 130, TransferIdle: 40},
		},
		{
			name:     "a copy that ends after compute ran dry is a stall of the difference",
			compute:  spans(framed("block", 0, 0, 100), framed("block", 1, 153, 200)),
			transfer: spans(framed("copy", 1, 0, 150)),
			want:     Timing{Blocks: 2, Copies: 1, Stalled: 1, Stall: 50, Longest: 50, Gap: 3, Compute: 147, Copying: 150},
		},
		{
			name: "work between blocks is no stall",
			compute: spans(framed("block", 0, 0, 100), []engine.Span{{Label: "out_layer", Start: 100, End: 140}},
				framed("block", 1, 153, 200)),
			transfer: spans(framed("copy", 1, 0, 150)),
			want:     Timing{Blocks: 2, Copies: 1, Stalled: 1, Stall: 10, Longest: 10, Gap: 3, Compute: 147, Copying: 150},
		},
		{
			name:     "a gap without a copy is the host's, not a stall",
			compute:  spans(framed("block", 0, 0, 100), framed("block", 1, 500, 600)),
			transfer: nil,
			want:     Timing{Blocks: 2, Gap: 400, Compute: 200},
		},
		{
			name:     "the second pass waits for its own copy, not the first pass's",
			compute:  spans(framed("block", 0, 10, 20), framed("block", 0, 45, 50), framed("block", 0, 50, 60)),
			transfer: spans(framed("copy", 0, 0, 5), framed("copy", 0, 20, 40), framed("copy", 0, 60, 70)),
			want:     Timing{Blocks: 3, Copies: 3, Stalled: 1, Stall: 20, Longest: 20, Compute: 25, Copying: 35, TransferIdle: 35},
		},
		{
			name:     "ends without a beginning and foreign marks are left out",
			compute:  []engine.Span{at(0, "block 0 end"), at(5, "block x begin"), at(6, "block 1 middle"), at(7, "blocks")},
			transfer: []engine.Span{at(0, "copy 0 end"), at(1, "copying")},
			want:     Timing{},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Stalls(c.compute, c.transfer)); diff != "" {
				t.Errorf("Stalls (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStallsOfOneBlockNeverExceedTheGap(t *testing.T) {
	// However long the copy, the stall ends with the copy and begins when compute ran dry.
	for end := 0.0; end < 300; end += 10 {
		got := Stalls(spans(framed("block", 0, 0, 100), framed("block", 1, 200, 300)), framed("copy", 1, 0, end))
		want := time.Duration(min(max(end-100, 0), 100))
		if end > 200 { // not over when the block began: it belongs to a later use
			want = 0
		}
		if got.Stall != want {
			t.Errorf("copy until %g: stall %v, want %v", end, got.Stall, want)
		}
	}
}
