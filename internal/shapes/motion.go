package shapes

import "math"

// Motion is what a shape does in a clip.
type Motion string

// The motions.
const (
	Right   Motion = "right"
	Left    Motion = "left"
	Up      Motion = "up"
	Down    Motion = "down"
	Turns   Motion = "turns"
	Grows   Motion = "grows"
	Shrinks Motion = "shrinks"
	Bounces Motion = "bounces"
	Still   Motion = "still"
)

// Motions lists them in the order of the training data.
func Motions() []Motion {
	return []Motion{Right, Left, Up, Down, Turns, Grows, Shrinks, Bounces, Still}
}

// How far the motions go in a whole clip, whatever its length (data.py).
const (
	shift  = 0.4         // of the side, right, left, up and down
	jump   = 0.3         // of the height, twice up and down again
	turn   = math.Pi / 3 // clockwise
	growth = 1.8         // of the radius
	shrink = 0.5
)

// After returns the figure at a moment of a clip of this size: u is 0 in the first frame and 1 in the last.
func (f Figure) After(m Motion, u float64, height, width int) Figure {
	switch m {
	case Right:
		f.X += shift * u * float64(width)
	case Left:
		f.X -= shift * u * float64(width)
	case Up:
		f.Y -= shift * u * float64(height)
	case Down:
		f.Y += shift * u * float64(height)
	case Turns:
		f.Turn += turn * u
	case Grows:
		f.Radius *= 1 + (growth-1)*u
	case Shrinks:
		f.Radius *= 1 + (shrink-1)*u
	case Bounces:
		_, fraction := math.Modf(2 * u)
		f.Y -= jump * 4 * fraction * (1 - fraction) * float64(height)
	}
	return f
}

// Start returns where a figure may begin so that the motion stays inside the picture: the middle of the training data's
// range (data.py, start), moved within it by a and b from -1 to 1. kind and colours stay open.
func Start(m Motion, a, b float64, height, width int) Figure {
	x, y, r := span{0.22, 0.78}, span{0.22, 0.78}, 0.15
	switch m {
	case Right:
		x = span{0.18, 0.4}
	case Left:
		x = span{0.6, 0.82}
	case Up:
		y = span{0.6, 0.82}
	case Down:
		y = span{0.18, 0.4}
	case Bounces:
		y = span{0.52, 0.78}
	case Grows:
		x, y, r = span{0.3, 0.7}, span{0.3, 0.7}, 0.125
	case Shrinks:
		r = 0.185
	}
	return Figure{X: x.at(a) * float64(width), Y: y.at(b) * float64(height), Radius: r * float64(min(height, width))}
}

type span [2]float64

// at maps -1…1 to the span.
func (s span) at(a float64) float64 { return (s[0] + s[1] + a*(s[1]-s[0])) / 2 }

// Caption is the plainest training caption of a clip, such as "a red circle moves to the right".
func Caption(color string, k Kind, m Motion) string {
	return "a " + color + " " + string(k) + " " + map[Motion]string{
		Right: "moves to the right", Left: "moves to the left", Up: "moves up", Down: "moves down", Turns: "turns", Grows: "grows",
		Shrinks: "shrinks", Bounces: "bounces", Still: "stays still",
	}[m]
}

// CaptionRU is the same in Russian, such as "красный круг движется вправо".
func CaptionRU(color string, k Kind, m Motion) string {
	noun := map[Kind]string{Circle: "круг", Square: "квадрат", Triangle: "треугольник", Star: "звезда"}[k]
	stem := map[string]string{"red": "красн", "green": "зелён", "blue": "син", "yellow": "жёлт", "purple": "фиолетов", "cyan": "голуб",
		"orange": "оранжев", "white": "бел"}[color]
	ending := "ый"
	switch {
	case k == Star && color == "blue":
		ending = "яя"
	case k == Star:
		ending = "ая"
	case color == "blue":
		ending = "ий"
	case color == "cyan":
		ending = "ой"
	}
	return stem + ending + " " + noun + " " + map[Motion]string{
		Right: "движется вправо", Left: "движется влево", Up: "движется вверх", Down: "движется вниз", Turns: "поворачивается",
		Grows: "растёт", Shrinks: "уменьшается", Bounces: "прыгает", Still: "стоит на месте",
	}[m]
}
