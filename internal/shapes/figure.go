package shapes

import (
	"math"

	"github.com/vkandinsky/vkandinsky/internal/media"
)

// Kind is the form of a shape.
type Kind string

// The kinds.
const (
	Circle   Kind = "circle"
	Square   Kind = "square"
	Triangle Kind = "triangle"
	Star     Kind = "star"
)

// Kinds lists them in the order of the training data.
func Kinds() []Kind { return []Kind{Circle, Square, Triangle, Star} }

// Symmetry is how many turns a full turn is divided into by the kind's symmetry; 0 for the circle, which shows no turn.
func (k Kind) Symmetry() int {
	return map[Kind]int{Square: 4, Triangle: 3, Star: 5}[k]
}

// RGB is a colour in levels from 0 to 255.
type RGB [3]float64

// Color is a colour that captions name.
type Color struct {
	Name string
	RGB  RGB
}

// Colors are the colours of shapes.
func Colors() []Color {
	return []Color{
		{"red", RGB{220, 40, 40}}, {"green", RGB{40, 170, 60}}, {"blue", RGB{50, 90, 225}}, {"yellow", RGB{235, 210, 50}},
		{"purple", RGB{150, 60, 190}}, {"cyan", RGB{50, 205, 215}}, {"orange", RGB{240, 130, 30}}, {"white", RGB{240, 240, 240}},
	}
}

// Backgrounds are the colours behind shapes.
func Backgrounds() []Color {
	return []Color{{"black", RGB{15, 15, 15}}, {"gray", RGB{120, 120, 120}}, {"navy", RGB{15, 20, 70}}, {"beige", RGB{225, 205, 170}}}
}

// Distinct says whether a colour stands out from a background; the training data leaves out the pairs that do not.
func Distinct(color, background string) bool {
	switch [2]string{color, background} {
	case [2]string{"white", "beige"}, [2]string{"yellow", "beige"}, [2]string{"orange", "beige"}, [2]string{"blue", "navy"}, [2]string{"purple", "navy"}:
		return false
	}
	return true
}

// Named returns the colour of that name among some, and false when there is none.
func Named(colors []Color, name string) (Color, bool) {
	for _, c := range colors {
		if c.Name == name {
			return c, true
		}
	}
	return Color{}, false
}

// Nearest returns the name of the colour nearest to one that was measured.
func Nearest(c RGB) string {
	best, distance := "", math.Inf(1)
	for _, named := range Colors() {
		if d := c.distance(named.RGB); d < distance {
			best, distance = named.Name, d
		}
	}
	return best
}

func (c RGB) distance(d RGB) float64 { return math.Sqrt(c.minus(d).dot(c.minus(d))) }

func (c RGB) minus(d RGB) RGB { return RGB{c[0] - d[0], c[1] - d[1], c[2] - d[2]} }

func (c RGB) dot(d RGB) float64 { return c[0]*d[0] + c[1]*d[1] + c[2]*d[2] }

// Figure is a shape on a background.
type Figure struct {
	Kind              Kind
	X, Y, Radius      float64 // of the circle around it
	Turn              float64 // radians clockwise
	Color, Background RGB
}

// distance is the signed distance in pixels from the outline of an unturned shape, negative inside; near corners it is
// the distance from a line that the outline lies on (data.py, distance).
func (f Figure) distance(x, y float64) float64 {
	switch r := f.Radius; f.Kind {
	case Square:
		return max(math.Abs(x), math.Abs(y)) - 0.82*r
	case Triangle:
		return max(y, 0.866025*x-0.5*y, -0.866025*x-0.5*y) - 0.55*r*1.05
	case Star:
		const sector, inner = 2 * math.Pi / 5, 0.5
		angle := math.Atan2(x, -y)
		angle -= sector * math.Floor(angle/sector+0.5)
		rho := math.Hypot(x, y)
		qx, qy := rho*math.Abs(math.Sin(angle)), rho*math.Cos(angle)
		ex, ey := inner*math.Sin(sector/2), inner*math.Cos(sector/2)-1 // from the tip to the inner corner, in radii
		return (ex*(qy-r) - ey*qx) / math.Hypot(ex, ey)
	default:
		return math.Hypot(x, y) - r
	}
}

// Draw renders the figure with edges one pixel soft.
func (f Figure) Draw(height, width int) *media.Image {
	im := media.NewImage(height, width)
	sin, cos := math.Sincos(f.Turn)
	for row := range height {
		for column := range width {
			dx, dy := float64(column)+0.5-f.X, float64(row)+0.5-f.Y
			cover := min(1, max(0, 0.5-f.distance(cos*dx+sin*dy, -sin*dx+cos*dy)))
			pixel := im.Pix[3*(row*width+column):]
			for c := range 3 {
				pixel[c] = uint8(math.RoundToEven(f.Background[c] + (f.Color[c]-f.Background[c])*cover))
			}
		}
	}
	return im
}
