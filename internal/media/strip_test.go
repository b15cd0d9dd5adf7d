package media

import "testing"

func TestStripsShowFramesUnderALabel(t *testing.T) {
	clip := NewClip(3, 8, 16)
	for i := range clip.Pix {
		clip.Pix[i] = uint8(100 + 50*(i/(3*8*16)))
	}
	plain, err := Strip(clip, "", SheetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if plain.Width != 3*(16+sheetGap)+sheetGap || plain.Height <= 8+2*sheetGap {
		t.Fatalf("the strip has %d×%d", plain.Width, plain.Height)
	}
	pixel := func(m *Image, x, y int) uint8 { return m.Pix[3*(y*m.Width+x)] }
	for k, want := range []uint8{100, 150, 200} {
		if got := pixel(plain, sheetGap+k*(16+sheetGap)+8, plain.Height-sheetGap-4); got != want {
			t.Errorf("frame %d is %d, want %d", k, got, want)
		}
	}
	labelled, err := Strip(clip, "seed 18446744073709551615", SheetOptions{Frames: 2})
	if err != nil {
		t.Fatal(err)
	}
	if labelled.Width < 25*7 {
		t.Errorf("a width of %d cuts the label", labelled.Width)
	}
	ink := func(m *Image) (n int) {
		for y := range m.Height - 8 - 2*sheetGap {
			for x := range m.Width {
				if pixel(m, x, y) == 220 {
					n++
				}
			}
		}
		return n
	}
	if ink(plain) != 0 || ink(labelled) < 100 {
		t.Errorf("labels of %d and %d points", ink(plain), ink(labelled))
	}
	stack, err := Stack([]*Image{plain, labelled})
	if err != nil {
		t.Fatal(err)
	}
	if stack.Height != plain.Height+labelled.Height || stack.Width != labelled.Width || pixel(stack, sheetGap+8, plain.Height-sheetGap-4) != 100 {
		t.Errorf("the stack has %d×%d", stack.Width, stack.Height)
	}
	if _, err := Stack(nil); err == nil {
		t.Error("a stack of nothing")
	}
}
