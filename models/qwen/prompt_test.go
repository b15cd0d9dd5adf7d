package qwen

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// tiny is a configuration whose patches have one value and whose image pad is id 9.
func tiny() weights.QwenConfig {
	c := weights.Qwen7B()
	c.ImageTokenID, c.Text.VocabSize = 9, 10
	c.Vision.InChans, c.Vision.TemporalPatchSize, c.Vision.PatchSize, c.Vision.WindowSize = 1, 1, 1, 8
	return c
}

func blank(rows, cols int) Image {
	return Image{Patches: make([]float32, rows*cols), Rows: rows, Cols: cols}
}

func TestPositions(t *testing.T) {
	text := func(from, n int) (out [][3]int) {
		for k := range n {
			out = append(out, [3]int{from + k, from + k, from + k})
		}
		return out
	}
	for _, c := range []struct {
		name   string
		prompt Prompt
		want   [][3]int
		next   int
	}{
		{"text counts up", Prompt{IDs: []int32{1, 2, 9}}, text(0, 3), 3},
		{"masked ids are not counted", Prompt{IDs: []int32{0, 1, 2, 0}, Mask: []bool{false, true, true, false}},
			[][3]int{{1, 1, 1}, {0, 0, 0}, {1, 1, 1}, {1, 1, 1}}, 2},
		{"a picture counts rows and columns", Prompt{IDs: []int32{1, 2, 9, 9, 9, 9, 9, 9, 3, 4}, Images: []Image{blank(4, 6)}},
			slices.Concat(text(0, 2), [][3]int{{2, 2, 2}, {2, 2, 3}, {2, 2, 4}, {2, 3, 2}, {2, 3, 3}, {2, 3, 4}}, text(5, 2)), 7},
		{"two pictures follow each other", Prompt{IDs: []int32{9, 9, 9, 9}, Images: []Image{blank(2, 4), blank(4, 2)}},
			[][3]int{{0, 0, 0}, {0, 0, 1}, {2, 2, 2}, {2, 3, 2}}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.prompt.place(tiny())
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(p.positions, c.want) || p.next != c.next {
				t.Errorf("got %v and then %d, want %v and %d", p.positions, p.next, c.want, c.next)
			}
		})
	}
}

func TestImpossiblePromptsAreRefused(t *testing.T) {
	for want, p := range map[string]Prompt{
		"without ids":                                         {},
		"id 10 at place 1":                                    {IDs: []int32{1, 10}},
		"id -1 at place 0":                                    {IDs: []int32{-1}},
		"a mask of 1 places for 2 ids":                        {IDs: []int32{1, 2}, Mask: []bool{true}},
		"1 pictures for a prompt with image pads for 0":       {IDs: []int32{1}, Images: []Image{blank(2, 2)}},
		"2 image pads from place 1 on, but picture 1 has 2×2": {IDs: []int32{1, 9, 9, 2}, Images: []Image{blank(4, 4)}},
		"3 image pads from place 0 on":                        {IDs: []int32{9, 9, 9}, Images: []Image{blank(4, 4)}},
		"image pad at place 1":                                {IDs: []int32{9, 9}, Images: []Image{blank(2, 2)}},
		"1 image pads from place 0 on":                        {IDs: []int32{9, 9}, Mask: []bool{true, false}, Images: []Image{blank(2, 4)}},
		"3×2 patches: rows and columns":                       {IDs: []int32{9}, Images: []Image{blank(3, 2)}},
		"0×2 patches: rows and columns":                       {IDs: []int32{9}, Images: []Image{blank(0, 2)}},
		"2×2 patches with 5 values, want 4":                   {IDs: []int32{9}, Images: []Image{{Patches: make([]float32, 5), Rows: 2, Cols: 2}}},
	} {
		t.Run(want, func(t *testing.T) {
			if _, err := p.place(tiny()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestWindowsTileTheGrid(t *testing.T) {
	order, bounds := windows(3, 5, 2)
	if want := []int{0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	want := [][2]int{{0, 4}, {0, 4}, {0, 4}, {0, 4}, {4, 8}, {4, 8}, {4, 8}, {4, 8}, {8, 10}, {8, 10}, {10, 12}, {10, 12}, {12, 14}, {12, 14}, {14, 15}}
	if !slices.Equal(bounds, want) {
		t.Errorf("bounds %v, want %v", bounds, want)
	}
}

func TestArrangeKeepsEveryPatchWithItsPlace(t *testing.T) {
	c := tiny().Vision
	c.InChans, c.TemporalPatchSize = 2, 3
	i := Image{Rows: 4, Cols: 6}
	// The value of channel ch and frame f of the patch at (row, column) says where it is from.
	for cell := range 6 {
		for k := range 4 {
			row, col := cell/3*2+k/2, cell%3*2+k%2
			for ch := range 2 {
				for f := range 3 {
					i.Patches = append(i.Patches, float32(row*1000+col*100+f*10+ch))
				}
			}
		}
	}
	if err := i.check(c); err != nil {
		t.Fatal(err)
	}
	a := arrange(i, c)
	for n, place := range a.places {
		for k, v := range a.pixels[n*6 : (n+1)*6] {
			if want := float32(place[0]*1000 + place[1]*100 + k/2*10 + k%2); v != want {
				t.Fatalf("value %d of patch %d at %v is %g, want %g", k, n, place, v, want)
			}
		}
	}
	for cell, place := range a.back {
		if got := a.places[place*4]; got != [2]int{cell / 3 * 2, cell % 3 * 2} {
			t.Errorf("cell %d is said to be at place %d, where %v is", cell, place, got)
		}
	}
}
