package shapes

import (
	"fmt"
	"math"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/media"
)

// Path is the shape in every frame of a clip.
type Path struct {
	Height, Width int
	Frames        []Found
	Lost          int // frames that show no shape; their entries are zero
}

// Track finds the shape in every frame.
func Track(clip *media.Clip) Path {
	p := Path{Height: clip.Height, Width: clip.Width, Frames: make([]Found, clip.Frames)}
	for k := range p.Frames {
		found, ok := Find(clip.Frame(k))
		if ok {
			p.Frames[k] = found
		} else {
			p.Lost++
		}
	}
	return p
}

// Limits of Judge: small beside what the motions do. Places are fractions of the picture's side, against moves of 0.4
// (bounces 0.3); radii are ratios, against 1.8 and 0.5; turns are radians, 20 degrees against 60.
const (
	placeLimit  = 0.08
	radiusLimit = 0.2
	turnLimit   = math.Pi / 9
)

// Verdict says how far a clip is from what its caption promises, at the worst frame.
type Verdict struct {
	Place  float64 // largest distance from where the shape should be, as a fraction of the side
	Radius float64 // largest deviation of the radius, as a ratio less 1
	Turn   float64 // largest deviation of the angle, in radians; 0 for circles
	Color  string  // the name nearest to the colour in most frames
	Lost   int     // frames that show no shape
	reason string
}

// OK says whether the clip shows what the caption says.
func (v Verdict) OK() bool { return v.reason == "" }

// String is a short account: "ok", or what is wrong; and the numbers.
func (v Verdict) String() string {
	word := "ok"
	if !v.OK() {
		word = v.reason
	}
	return fmt.Sprintf("%s (place off by %.3f, radius by %.2f, turn by %.2f, %s, lost in %d frames)", word, v.Place, v.Radius, v.Turn, v.Color, v.Lost)
}

// Judge compares a clip with a caption: from where and how large the shape is in the first frame it must follow the
// motion's law in every frame, in the colour that the caption names. kind serves the turn alone.
func (p Path) Judge(color string, k Kind, m Motion) Verdict {
	v := Verdict{Lost: p.Lost}
	if p.Lost > 0 {
		v.reason = "the shape is lost"
		return v
	}
	first := p.Frames[0]
	start := Figure{X: first.X, Y: first.Y, Radius: first.radius()}
	last := len(p.Frames) - 1
	counts := map[string]int{}
	turned, before := 0.0, first.Turn(k.Symmetry())
	for i, f := range p.Frames {
		want := start.After(m, float64(i)/float64(max(last, 1)), p.Height, p.Width)
		v.Place = max(v.Place, math.Hypot((f.X-want.X)/float64(p.Width), (f.Y-want.Y)/float64(p.Height)))
		v.Radius = max(v.Radius, math.Abs(f.radius()/want.Radius-1))
		if n := k.Symmetry(); n > 0 {
			now := f.Turn(n)
			turned += math.Remainder(now-before, 2*math.Pi/float64(n))
			before = now
			v.Turn = max(v.Turn, math.Abs(turned-want.Turn))
		}
		name := Nearest(f.Color)
		if counts[name]++; counts[name] > counts[v.Color] {
			v.Color = name
		}
	}
	var wrong []string
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{!(v.Place <= placeLimit), "wrong place"}, {!(v.Radius <= radiusLimit), "wrong size"},
		{!(v.Turn <= turnLimit), "wrong turn"}, {v.Color != color, "wrong colour"},
	} {
		if c.bad {
			wrong = append(wrong, c.text)
		}
	}
	v.reason = strings.Join(wrong, ", ")
	return v
}
