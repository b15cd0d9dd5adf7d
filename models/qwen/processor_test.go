package qwen

import (
	"math"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func publishedProcessor() Processor {
	return Processor{weights.PublishedImageProcessor(), weights.Qwen7B().Vision}
}

func TestPictureSizes(t *testing.T) {
	for _, c := range []struct{ height, width, wantHeight, wantWidth int }{
		{512, 768, 504, 756}, // 18.29 and 27.43 cells
		{42, 70, 56, 56},     // 1.5 and 2.5 cells: halves go to even
		{28, 28, 56, 56},     // fewer than 3136 pixels
		{10, 300, 28, 308},   // a side that rounds to nothing
		{8000, 6000, 4116, 3080},
		{1, 200, 28, 812},
	} {
		h, w, err := publishedProcessor().Size(c.height, c.width)
		if err != nil || h != c.wantHeight || w != c.wantWidth {
			t.Errorf("%d×%d: %d×%d, %v; want %d×%d", c.height, c.width, h, w, err, c.wantHeight, c.wantWidth)
		}
	}
	if n, err := publishedProcessor().Patches(512, 768); err != nil || n != 1944 {
		t.Errorf("%d patches, %v", n, err)
	}
	for _, s := range [][2]int{{0, 5}, {1, 201}, {201, 1}} {
		if _, _, err := publishedProcessor().Size(s[0], s[1]); err == nil || !strings.Contains(err.Error(), "200") {
			t.Errorf("%v: %v", s, err)
		}
	}
}

func TestPicturesAreCutIntoPatches(t *testing.T) {
	p := publishedProcessor()
	im := media.NewImage(56, 84)
	for y := range 56 {
		for x := range 84 {
			copy(im.Pix[3*(y*84+x):], []uint8{uint8(y), uint8(x), uint8(y + x)})
		}
	}
	got, err := p.Image(im)
	if err != nil || got.Rows != 4 || got.Cols != 6 || got.check(p.Vision) != nil {
		t.Fatalf("%d×%d patches, %v", got.Rows, got.Cols, err)
	}
	mean, std := p.Config.Mean, p.Config.Std
	for k, v := range got.Patches {
		at, n := k%1176, k/1176
		cell, part := n/4, n%4
		channel, y, x := at/392, at%196/14, at%14
		y, x = y+14*(cell/3*2+part/2), x+14*(cell%3*2+part%2)
		level := float64([]int{y, x, y + x}[channel])
		if want := (level/255 - mean[channel]) / std[channel]; math.Abs(float64(v)-want) > 1e-5 {
			t.Fatalf("value %d of patch %d is %g, want %g", at, n, v, want)
		}
	}
	p.Vision.InChans = 1
	if _, err := p.Image(im); err == nil {
		t.Error("a tower of one channel took a picture")
	}
}
