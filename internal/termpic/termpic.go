package termpic

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"image"
	"image/png"
	"io"
	"strings"
)

// Protocol is a way to show pictures.
type Protocol string

// The protocols.
const (
	None  Protocol = ""
	Kitty Protocol = "kitty"
	ITerm Protocol = "iterm2"
	Sixel Protocol = "sixel"
)

// Detect tells from a terminal's environment what it can show; getenv is os.Getenv. Inside tmux and screen, which pass
// pictures on only where they are told to, nothing is shown.
func Detect(getenv func(string) string) Protocol {
	term, program := getenv("TERM"), getenv("TERM_PROGRAM")
	switch {
	case getenv("TMUX") != "", strings.HasPrefix(term, "screen"), strings.HasPrefix(term, "tmux"):
		return None
	case term == "xterm-kitty", getenv("KITTY_WINDOW_ID") != "":
		return Kitty
	case program == "iTerm.app", program == "WezTerm", getenv("LC_TERMINAL") == "iTerm2":
		return ITerm
	case strings.HasPrefix(term, "foot"), strings.HasPrefix(term, "mlterm"), strings.HasPrefix(term, "contour"), strings.Contains(term, "sixel"):
		return Sixel
	}
	return None
}

// Write shows frames of one size at the cursor, each for a number of milliseconds, again and again where the protocol
// animates. gif is the same clip as a GIF file, which iTerm2 takes. The text has no line feed.
func Write(w io.Writer, p Protocol, frames []*image.RGBA, gif []byte, milliseconds int) error {
	var out bytes.Buffer
	switch {
	case len(frames) == 0:
		return nil
	case p == Kitty:
		if err := kitty(&out, frames, milliseconds); err != nil {
			return err
		}
	case p == ITerm:
		fmt.Fprintf(&out, "\x1b]1337;File=inline=1;size=%d:%s\x07", len(gif), base64.StdEncoding.EncodeToString(gif))
	case p == Sixel:
		sixel(&out, frames[len(frames)/2])
	}
	_, err := w.Write(out.Bytes())
	return err
}

// kittyImage is the number of the picture; the next preview has the same, which takes the one before off the screen.
const kittyImage = 5050

// kitty transmits the first frame as a picture and the others as its frames (sw.kovidgoyal.net/kitty/graphics-protocol),
// as PNG; q=2 keeps the terminal from answering.
func kitty(out *bytes.Buffer, frames []*image.RGBA, milliseconds int) error {
	for k, f := range frames {
		var file bytes.Buffer
		if err := png.Encode(&file, f); err != nil {
			return err
		}
		head := fmt.Sprintf("a=f,i=%d,f=100,q=2,z=%d", kittyImage, milliseconds)
		if k == 0 {
			head = fmt.Sprintf("a=T,i=%d,f=100,q=2", kittyImage)
		}
		chunks(out, head, k > 0, base64.StdEncoding.EncodeToString(file.Bytes()))
	}
	if len(frames) > 1 {
		fmt.Fprintf(out, "\x1b_Ga=a,i=%d,r=1,z=%d,q=2\x1b\\", kittyImage, milliseconds) // how long the first is shown
		fmt.Fprintf(out, "\x1b_Ga=a,i=%d,s=3,v=1,q=2\x1b\\", kittyImage)                // run, for ever
	}
	return nil
}

// chunks writes data in pieces of at most 4096 bytes; all but the last say that more follows. Pieces of a frame repeat a=f.
func chunks(out *bytes.Buffer, head string, frame bool, data string) {
	const most = 4096
	for first := true; first || data != ""; first = false {
		n := min(most, len(data))
		more := 0
		if n < len(data) {
			more = 1
		}
		switch {
		case first:
			fmt.Fprintf(out, "\x1b_G%s,m=%d;%s\x1b\\", head, more, data[:n])
		case frame:
			fmt.Fprintf(out, "\x1b_Ga=f,q=2,m=%d;%s\x1b\\", more, data[:n])
		default:
			fmt.Fprintf(out, "\x1b_Gq=2,m=%d;%s\x1b\\", more, data[:n])
		}
		data = data[n:]
	}
}

// levels of each colour in the sixels' palette of 6×6×6.
const levels = 6

// sixel writes a picture in bands of six rows, colour by colour (VT330/VT340 programmer reference, chapter 14).
func sixel(out *bytes.Buffer, im *image.RGBA) {
	width, height := im.Rect.Dx(), im.Rect.Dy()
	fmt.Fprintf(out, "\x1bP0;1;0q\"1;1;%d;%d", width, height)
	for c := range levels * levels * levels {
		fmt.Fprintf(out, "#%d;2;%d;%d;%d", c, c/36*20, c/6%6*20, c%6*20)
	}
	for top := 0; top < height; top += 6 {
		var used [levels * levels * levels][]byte // the column's six pixels, a bit each
		for x := range width {
			for y := top; y < min(top+6, height); y++ {
				c := colourOf(im, x, y)
				if used[c] == nil {
					used[c] = make([]byte, width)
				}
				used[c][x] |= 1 << (y - top)
			}
		}
		for c, columns := range used {
			if columns != nil {
				fmt.Fprintf(out, "#%d", c)
				runs(out, columns)
				out.WriteByte('$') // back to the left for the next colour
			}
		}
		out.WriteByte('-') // next band
	}
	out.WriteString("\x1b\\")
}

// colourOf is a pixel's entry in the palette.
func colourOf(im *image.RGBA, x, y int) int {
	p := im.Pix[im.PixOffset(im.Rect.Min.X+x, im.Rect.Min.Y+y):]
	level := func(v uint8) int { return (int(v)*(levels-1) + 127) / 255 }
	return 36*level(p[0]) + 6*level(p[1]) + level(p[2])
}

// runs writes columns, those that repeat with their number before.
func runs(out *bytes.Buffer, columns []byte) {
	for k := 0; k < len(columns); {
		n := 1
		for k+n < len(columns) && columns[k+n] == columns[k] {
			n++
		}
		if n > 3 {
			fmt.Fprintf(out, "!%d%c", n, '?'+columns[k])
		} else {
			out.WriteString(strings.Repeat(string(rune('?'+columns[k])), n))
		}
		k += n
	}
}
