package shapes

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/media"
)

// each calls a function for every kind, colour and background that go together.
func each(call func(k Kind, c, b Color)) {
	for _, k := range Kinds() {
		for _, c := range Colors() {
			for _, b := range Backgrounds() {
				if Distinct(c.Name, b.Name) {
					call(k, c, b)
				}
			}
		}
	}
}

// areaOf integrates a figure's inside numerically, 16 points a pixel.
func areaOf(f Figure, height, width int) (area float64) {
	for y := range 4 * height {
		for x := range 4 * width {
			if f.distance((float64(x)+0.5)/4-f.X, (float64(y)+0.5)/4-f.Y) < 0 {
				area += 1.0 / 16
			}
		}
	}
	return area
}

// withNoise moves every level by up to so many.
func withNoise(im *media.Image, rng *rand.Rand, level int) {
	for i, v := range im.Pix {
		im.Pix[i] = uint8(min(255, max(0, int(v)+rng.IntN(2*level+1)-level)))
	}
}

func TestFindMeasuresWhatWasDrawn(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	each(func(k Kind, c, b Color) {
		f := Figure{Kind: k, X: 20 + 24*rng.Float64(), Y: 20 + 24*rng.Float64(), Radius: 5 + 8*rng.Float64(), Color: c.RGB, Background: b.RGB}
		want := areaOf(f, 64, 64)
		im := f.Draw(64, 64)
		withNoise(im, rng, 6)
		got, ok := Find(im)
		if !ok {
			t.Fatalf("%+v was not found", f)
		}
		if off := math.Hypot(got.X-f.X, got.Y-f.Y); off > 0.5 {
			t.Errorf("%s of %s on %s at (%.2f, %.2f): found %.2f pixels away", k, c.Name, b.Name, f.X, f.Y, off)
		}
		if ratio := math.Sqrt(got.Area / want); math.Abs(ratio-1) > 0.08 {
			t.Errorf("%s of %s on %s, radius %.1f: area %.1f, want %.1f", k, c.Name, b.Name, f.Radius, got.Area, want)
		}
		if name := Nearest(got.Color); name != c.Name || got.Color.distance(c.RGB) > 12 {
			t.Errorf("%s on %s: colour %v is called %s", c.Name, b.Name, got.Color, name)
		}
	})
}

func TestCentroidIsSubpixel(t *testing.T) {
	// Of a drawn circle the only errors are 8-bit levels and the share below which a pixel is background.
	for _, x := range []float64{30, 30.25, 30.5, 30.9} {
		f := Figure{Kind: Circle, X: x, Y: 31.3, Radius: 9.4, Color: Colors()[0].RGB, Background: Backgrounds()[1].RGB}
		got, ok := Find(f.Draw(64, 80))
		if !ok || math.Hypot(got.X-f.X, got.Y-f.Y) > 0.05 {
			t.Errorf("a circle at %.2f, 31.30 was found at %.2f, %.2f", x, got.X, got.Y)
		}
	}
}

func TestTurnIsMeasuredClockwise(t *testing.T) {
	for _, k := range Kinds() {
		n := k.Symmetry()
		if n == 0 {
			continue
		}
		f := Figure{Kind: k, X: 32, Y: 32, Radius: 10, Color: Colors()[0].RGB}
		before, _ := Find(f.Draw(64, 64))
		for _, degrees := range []float64{3, 10, 20, -15} {
			f.Turn = degrees * math.Pi / 180
			after, _ := Find(f.Draw(64, 64))
			got := math.Remainder(after.Turn(n)-before.Turn(n), 2*math.Pi/float64(n)) * 180 / math.Pi
			if math.Abs(got-degrees) > 1 {
				t.Errorf("a %s turned by %.0f degrees seems to be turned by %.1f", k, degrees, got)
			}
		}
	}
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	plain := Figure{Kind: Circle, X: -50, Y: -50, Radius: 5, Color: Colors()[0].RGB, Background: Backgrounds()[2].RGB}.Draw(64, 64)
	if f, ok := Find(plain); ok {
		t.Errorf("on a plain background: %+v", f)
	}
	withNoise(plain, rand.New(rand.NewPCG(3, 4)), 8)
	if f, ok := Find(plain); ok {
		t.Errorf("in noise: %+v", f)
	}
	plain.Pix[3*(64*20+20)] = 255 // one pixel is no shape
	if f, ok := Find(plain); ok {
		t.Errorf("in a single pixel: %+v", f)
	}
}

func TestASpeckFarAwayDoesNotMoveTheShape(t *testing.T) {
	f := Figure{Kind: Circle, X: 40, Y: 40, Radius: 9, Color: Colors()[2].RGB, Background: Backgrounds()[0].RGB}
	im := f.Draw(64, 64)
	for _, p := range []int{64*5 + 5, 64*5 + 6, 64*6 + 5} {
		copy(im.Pix[3*p:], []uint8{255, 255, 255})
	}
	if got, ok := Find(im); !ok || math.Hypot(got.X-40, got.Y-40) > 0.1 {
		t.Errorf("found at %.2f, %.2f", got.X, got.Y)
	}
}

// drawn is a clip that shows a caption exactly.
func drawn(f Figure, m Motion, frames, height, width int) *media.Clip {
	clip := media.NewClip(frames, height, width)
	for k := range frames {
		copy(clip.Frame(k).Pix, f.After(m, float64(k)/float64(frames-1), height, width).Draw(height, width).Pix)
	}
	return clip
}

func TestJudgeKnowsEveryMotionFromEveryOther(t *testing.T) {
	const frames = 25
	for _, k := range Kinds() {
		for i, m := range Motions() {
			if k == Circle && m == Turns {
				continue // cannot be seen
			}
			f := Start(m, 0.5, -0.5, 64, 64)
			f.Kind, f.Color, f.Background = k, Colors()[i%8].RGB, Backgrounds()[0].RGB
			path := Track(drawn(f, m, frames, 64, 64))
			for _, asked := range Motions() {
				same := asked == m || k == Circle && asked == Turns && m == Still
				if v := path.Judge(Colors()[i%8].Name, k, asked); v.OK() != same {
					t.Errorf("a %s that does %s, judged as %s: %v", k, m, asked, v)
				}
			}
			if v := path.Judge(Colors()[(i+1)%8].Name, k, m); v.OK() {
				t.Errorf("a %s %s passes for a %s one", Colors()[i%8].Name, k, Colors()[(i+1)%8].Name)
			}
		}
	}
}

func TestJudgeRefusesHalfAMotion(t *testing.T) {
	f := Start(Right, 0, 0, 64, 64)
	f.Kind, f.Color = Circle, Colors()[0].RGB
	clip := drawn(f, Right, 25, 64, 64)
	for k := 13; k < 25; k++ { // stops halfway
		copy(clip.Frame(k).Pix, clip.Frame(12).Pix)
	}
	if v := Track(clip).Judge("red", Circle, Right); v.OK() {
		t.Errorf("a circle that stops halfway: %v", v)
	}
	copy(clip.Frame(20).Pix, media.NewImage(64, 64).Pix)
	if v := Track(clip).Judge("red", Circle, Right); v.OK() || v.Lost != 1 {
		t.Errorf("a frame without a shape: %v", v)
	}
}

func TestCaptionsInBothLanguages(t *testing.T) {
	for _, c := range []struct {
		color  string
		kind   Kind
		motion Motion
		en, ru string
	}{
		{"red", Circle, Right, "a red circle moves to the right", "красный круг движется вправо"},
		{"blue", Star, Up, "a blue star moves up", "синяя звезда движется вверх"},
		{"cyan", Square, Bounces, "a cyan square bounces", "голубой квадрат прыгает"},
		{"blue", Triangle, Still, "a blue triangle stays still", "синий треугольник стоит на месте"},
		{"orange", Star, Grows, "a orange star grows", "оранжевая звезда растёт"},
	} {
		if got := Caption(c.color, c.kind, c.motion); got != c.en {
			t.Errorf("%q, want %q", got, c.en)
		}
		if got := CaptionRU(c.color, c.kind, c.motion); got != c.ru {
			t.Errorf("%q, want %q", got, c.ru)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	f := Start(Right, 0, 0, 64, 64)
	f.Kind, f.Color = Star, Colors()[0].RGB
	im := f.Draw(64, 64)
	for b.Loop() {
		Find(im)
	}
}

// TestLawsOfMotion holds the numbers of the training data (tools/tinymodel/data.py), which are the model's, not ours.
func TestLawsOfMotion(t *testing.T) {
	const height, width = 100, 200
	f := Figure{X: 80, Y: 60, Radius: 10}
	for _, c := range []struct {
		motion             Motion
		u                  float64
		x, y, radius, turn float64
	}{
		{Right, 1, 160, 60, 10, 0}, {Left, 0.5, 40, 60, 10, 0}, {Up, 1, 80, 20, 10, 0}, {Down, 1, 80, 100, 10, 0},
		{Turns, 1, 80, 60, 10, math.Pi / 3}, {Grows, 0.5, 80, 60, 14, 0}, {Shrinks, 1, 80, 60, 5, 0}, {Still, 1, 80, 60, 10, 0},
		{Bounces, 0.25, 80, 30, 10, 0}, {Bounces, 0.5, 80, 60, 10, 0}, {Bounces, 0.75, 80, 30, 10, 0}, {Bounces, 1, 80, 60, 10, 0},
	} {
		got := f.After(c.motion, c.u, height, width)
		if math.Hypot(got.X-c.x, got.Y-c.y)+math.Abs(got.Radius-c.radius)+math.Abs(got.Turn-c.turn) > 1e-9 {
			t.Errorf("%s at %g: %+v", c.motion, c.u, got)
		}
	}
	// Clockwise: a star's upper tip goes to the right.
	star := Figure{Kind: Star, X: 32, Y: 32, Radius: 20, Turn: 0.3, Color: Colors()[7].RGB}.Draw(64, 64)
	left, right := 0, 0
	for p := range 64 * 18 { // above the arms
		if star.Pix[3*p] > 128 {
			if p%64 < 32 {
				left++
			} else {
				right++
			}
		}
	}
	if right < 5 || left > 0 {
		t.Errorf("the tip of a star turned clockwise has %d pixels on the left and %d on the right", left, right)
	}
}
