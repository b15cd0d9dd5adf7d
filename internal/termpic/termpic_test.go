package termpic

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want Protocol
	}{
		{map[string]string{"TERM": "xterm-256color"}, None},
		{map[string]string{}, None},
		{map[string]string{"TERM": "xterm-kitty"}, Kitty},
		{map[string]string{"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Kitty},
		{map[string]string{"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None},
		{map[string]string{"TERM": "xterm-kitty", "TMUX": "/tmp/tmux-0/default,1,0"}, None},
		{map[string]string{"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, ITerm},
		{map[string]string{"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, ITerm},
		{map[string]string{"TERM": "foot"}, Sixel},
		{map[string]string{"TERM": "yaft-sixel"}, Sixel},
	} {
		if got := Detect(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%v shows by %q, want %q", c.env, got, c.want)
		}
	}
}

// frames are n pictures; noise makes their files large.
func frames(n, width, height int) []*image.RGBA {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]*image.RGBA, n)
	for k := range out {
		out[k] = image.NewRGBA(image.Rect(0, 0, width, height))
		for y := range height {
			for x := range width {
				out[k].SetRGBA(x, y, color.RGBA{uint8(random.Uint32()), uint8(random.Uint32()), uint8(40 * k), 255})
			}
		}
	}
	return out
}

// show returns what Write writes.
func show(t *testing.T, p Protocol, list []*image.RGBA, gif []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, p, list, gif, 160); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\n\r") {
		t.Errorf("%q has a line feed", p)
	}
	return out.String()
}

// TestKittyGetsEveryFrame puts the pieces together as the terminal does.
func TestKittyGetsEveryFrame(t *testing.T) {
	list := frames(3, 40, 30)
	text := show(t, Kitty, list, nil)
	var data strings.Builder
	var pictures []image.Image
	last := ""
	for _, m := range regexp.MustCompile("\x1b_G([^;\x1b]*)(?:;([^\x1b]*))?\x1b\\\\").FindAllStringSubmatch(text, -1) {
		text = strings.Replace(text, m[0], "", 1)
		if len(m[2]) > 4096 {
			t.Errorf("a piece of %d bytes", len(m[2]))
		}
		if last = m[1]; m[2] == "" {
			continue
		}
		data.WriteString(m[2])
		if strings.Contains(m[1], "m=1") {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(data.String())
		if err != nil {
			t.Fatal(err)
		}
		data.Reset()
		im, err := png.Decode(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		pictures = append(pictures, im)
	}
	if text != "" || !strings.Contains(last, "s=3,v=1") {
		t.Errorf("left over %q; the last command is %q", text, last)
	}
	if len(pictures) != len(list) {
		t.Fatalf("%d pictures, want %d", len(pictures), len(list))
	}
	for k, im := range pictures {
		if im.At(7, 5) != list[k].At(7, 5) && im.At(7, 5) != color.Color(color.NRGBAModel.Convert(list[k].At(7, 5))) {
			t.Errorf("frame %d differs", k)
		}
	}
}

func TestITermGetsTheFile(t *testing.T) {
	text := show(t, ITerm, frames(1, 2, 2), []byte("GIF89a…"))
	if want := "\x1b]1337;File=inline=1;size=9:" + base64.StdEncoding.EncodeToString([]byte("GIF89a…")) + "\x07"; text != want {
		t.Errorf("got %q, want %q", text, want)
	}
}

// TestSixelsDrawThePicture draws what was written and compares every pixel with the palette's nearest colour.
func TestSixelsDrawThePicture(t *testing.T) {
	im := frames(1, 37, 20)[0]
	for x := 5; x < 30; x++ {
		im.SetRGBA(x, 3, color.RGBA{255, 255, 255, 255}) // a run
	}
	text := show(t, Sixel, []*image.RGBA{im}, nil)
	body, ok := strings.CutPrefix(strings.TrimSuffix(text, "\x1b\\"), "\x1bP0;1;0q\"1;1;37;20")
	if !ok {
		t.Fatalf("begins with %.30q", text)
	}
	palette, drawn := map[int][3]int{}, map[image.Point]int{}
	x, top, colour := 0, 0, -1
	for _, m := range regexp.MustCompile(`#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)(.)|([?-~])|(\$)|(-)`).FindAllStringSubmatch(body, -1) {
		number := func(k int) int { n, _ := strconv.Atoi(m[k]); return n }
		put := func(bits byte, n int) {
			for range n {
				for b := range 6 {
					if bits&(1<<b) != 0 {
						drawn[image.Pt(x, top+b)] = colour
					}
				}
				x++
			}
		}
		switch {
		case m[2] != "":
			palette[number(1)] = [3]int{number(2), number(3), number(4)}
		case m[1] != "":
			colour = number(1)
		case m[5] != "":
			put(m[6][0]-'?', number(5))
		case m[8] != "":
			x = 0
		case m[9] != "":
			x, top = 0, top+6
		default:
			put(m[7][0]-'?', 1)
		}
	}
	if len(drawn) != 37*20 {
		t.Errorf("%d pixels are drawn, want %d", len(drawn), 37*20)
	}
	for p, c := range drawn {
		want := im.RGBAAt(p.X, p.Y)
		for k, v := range []uint8{want.R, want.G, want.B} {
			if diff := float64(palette[c][k])/100 - float64(v)/255; diff < -0.11 || diff > 0.11 {
				t.Fatalf("pixel %v has %v of 100, want %v", p, palette[c], want)
			}
		}
	}
}

func TestNothingIsShownWhereNothingCanBe(t *testing.T) {
	if text := show(t, None, frames(2, 3, 3), []byte("x")) + show(t, Kitty, nil, nil); text != "" {
		t.Errorf("got %q", text)
	}
}
