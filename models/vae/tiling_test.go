package vae

import (
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestChooseTilingIsTheReferencesChoice(t *testing.T) {
	const plenty = 80 << 30
	cases := []struct {
		h, w                     int
		free                     int64
		height, width, down, out int
	}{
		{512, 512, plenty, 512, 512, 512, 512},
		{512, 768, plenty, 512, 768, 512, 768},
		{512, 768, 13_690_208_257, 512, 768, 512, 768},
		{512, 768, 13_690_208_256, 512, 400, 512, 368}, // the area must be below what fits: one byte more keeps it whole
		{768, 512, 13_690_208_256, 400, 512, 368, 512},
		{512, 768, 6 << 30, 272, 272, 240, 240},
		{1024, 1024, plenty, 528, 528, 496, 496},
		{768, 1280, plenty, 400, 448, 368, 416},
		{1280, 768, plenty, 448, 400, 416, 368},
		{896, 1152, plenty, 464, 592, 432, 560},
		{640, 1408, plenty, 640, 488, 640, 456},
		{64, 64, 0, 48, 48, 16, 16},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%d×%d with %d bytes free", c.h, c.w, c.free), func(t *testing.T) {
			got := ChooseTiling(c.h, c.w, c.free)
			want := Tiling{Frames: 17, FrameStride: 8, Height: c.height, Width: c.width, HeightStep: c.down, WidthStep: c.out}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if err := got.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// referenceStarts is the reference's loop (kandinsky/models/vae.py, tiled_decode), which may miss the end.
func referenceStarts(size, tile, step int) (starts []int) {
	for at := 0; at <= size-tile; at += step {
		starts = append(starts, at)
	}
	return starts
}

func checkCuts(t *testing.T, list []cut, size, tile, step int) {
	t.Helper()
	end := 0
	for k, c := range list {
		if c.from != end || c.to-c.from != tile || c.fade < 0 || c.keep < 1 || c.keep > tile {
			t.Fatalf("size %d, tile %d, step %d: tile %d is %+v, %d are covered", size, tile, step, k, c, end)
		}
		if k > 0 && c.fade != list[k-1].to-c.from {
			t.Fatalf("size %d, tile %d, step %d: tile %d fades over %d places, the overlap is %d", size, tile, step, k, c.fade, list[k-1].to-c.from)
		}
		end += c.keep
	}
	if end != size {
		t.Fatalf("size %d, tile %d, step %d: tiles cover %d places", size, tile, step, end)
	}
}

func TestTilesCoverAnAxisAndAreTheReferencesWhereThoseDo(t *testing.T) {
	same := 0
	for size := 2; size <= 60; size++ {
		for tile := 1; tile <= size; tile++ {
			for step := 1; step <= tile; step++ {
				list := cuts(size, tile, step)
				checkCuts(t, list, size, tile, step)
				want := referenceStarts(size, tile, step)
				if want[len(want)-1]+tile != size {
					continue
				}
				same++
				if len(list) != len(want) {
					t.Fatalf("size %d, tile %d, step %d: %d tiles, the reference has %d", size, tile, step, len(list), len(want))
				}
				for k := range want {
					if list[k].from != want[k] {
						t.Fatalf("size %d, tile %d, step %d: tile %d starts at %d, want %d", size, tile, step, k, list[k].from, want[k])
					}
				}
			}
		}
	}
	if same < 1000 {
		t.Errorf("only %d comparisons with the reference", same)
	}
}

func TestLastTileLiesFlushWithTheEnd(t *testing.T) {
	cases := []struct {
		size, tile, step int
		starts           []int
	}{
		{176, 61, 57, []int{0, 57, 115}}, // 640×1408: the reference's picture is 1400 wide
		{96, 34, 30, []int{0, 30, 62}},   // 512×768 in three columns: 752 wide
		{20, 8, 7, []int{0, 7, 12}},      // half of one place of overlap would be none: one tile more than the reference
		{9, 6, 3, []int{0, 3}},
		{10, 0, 0, []int{0}},
		{10, 12, 8, []int{0}},
	}
	for _, c := range cases {
		list := cuts(c.size, c.tile, c.step)
		var got []int
		for _, p := range list {
			got = append(got, p.from)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.starts) {
			t.Errorf("size %d, tile %d, step %d: starts %v, want %v", c.size, c.tile, c.step, got, c.starts)
		}
	}
}

func TestTilesInTimeAreTheReferencesForEveryLength(t *testing.T) {
	for frames := 1; frames <= 128; frames++ {
		list := timeCuts(frames, 5, 2)
		if frames <= 5 {
			if len(list) != 1 || list[0] != (cut{0, frames, 0, frames}) {
				t.Errorf("%d latent frames: %+v, want one tile", frames, list)
			}
			continue
		}
		total := 0
		for k, c := range list {
			if c.from != 2*k || c.to != min(c.from+5, frames) || (c.fade != 2) == (k > 0) {
				t.Errorf("%d latent frames: tile %d is %+v", frames, k, c)
			}
			last := k == len(list)-1
			if last != (c.from+2 > frames-4) { // the reference goes on while start ≤ T − 4
				t.Errorf("%d latent frames: %d tiles", frames, len(list))
			}
			total += pixelUnit.frames * c.keep
			if k == 0 {
				total -= 3
			}
		}
		if want := pixelUnit.count(frames); total != want {
			t.Errorf("%d latent frames: %d frames come out, want %d", frames, total, want)
		}
	}
	if n := len(timeCuts(31, 5, 2)); n != 14 {
		t.Errorf("%d tiles for five seconds, want 14", n)
	}
}

func TestOtherStridesInTimeCoverEveryLength(t *testing.T) {
	for tile := 2; tile <= 8; tile++ {
		for step := 1; step < tile; step++ {
			for frames := 1; frames <= 40; frames++ {
				total := 0
				for k, c := range timeCuts(frames, tile, step) {
					have := c.to - c.from
					if k > 0 {
						have--
					}
					if c.keep < 1 || c.keep > have {
						t.Fatalf("%d frames, tile %d, step %d: tile %d is %+v", frames, tile, step, k, c)
					}
					total += c.keep
				}
				if total != frames {
					t.Fatalf("%d frames, tile %d, step %d: %d come out", frames, tile, step, total)
				}
			}
		}
	}
}

func TestImpossibleTilingsAreErrors(t *testing.T) {
	good := ChooseTiling(1024, 1024, 1<<40)
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Tiling){
		"frames that are not 4k + 1": func(t *Tiling) { t.Frames = 16 },
		"a frame stride of 2":        func(t *Tiling) { t.FrameStride = 2 },
		"no overlap in time":         func(t *Tiling) { t.FrameStride = 20 },
		"a height of 100":            func(t *Tiling) { t.Height = 100 },
		"a negative width":           func(t *Tiling) { t.Width = -8 },
		"no step":                    func(t *Tiling) { t.WidthStep = 0 },
		"gaps":                       func(t *Tiling) { t.HeightStep = t.Height + 8 },
	} {
		tiling := good
		change(&tiling)
		if err := tiling.check(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func published(p load.Precision) Model {
	return Model{Config: weights.HunyuanVAE(), Precision: p, Stored: weights.F16,
		Limits: Limits{MaxAllocation: 4292870144, MaxStorageRange: 1<<32 - 1, Half: p == load.Mixed}}
}

func TestFitTilingTakesTheLargestTilesThatFit(t *testing.T) {
	size := Size{121, 512, 768}
	m := published(load.Mixed)
	before := 1 << 40
	for _, budget := range []int64{24 << 30, 5 << 30, 4 << 30, 3 << 30, 2 << 30, 1 << 30} {
		tiling, err := m.FitTiling(size, budget)
		if err != nil {
			t.Fatal(err)
		}
		need, err := m.DecodeNeed(size, tiling, false)
		if err != nil {
			t.Fatal(err)
		}
		if need.Bytes() > budget {
			t.Errorf("tiles of %d×%d take %d bytes of %d", tiling.Height, tiling.Width, need.Bytes(), budget)
		}
		if area := tiling.area(); area > before {
			t.Errorf("with less memory the tiles grow to %d×%d", tiling.Height, tiling.Width)
		} else {
			before = area
		}
		t.Logf("%5.1f GiB: tiles of %d×%d, %.2f GiB", float64(budget)/(1<<30), tiling.Height, tiling.Width, float64(need.Bytes())/(1<<30))
	}
	for _, budget := range []int64{5 << 30, 24 << 30} {
		if tiling, _ := m.FitTiling(size, budget); tiling != ChooseTiling(512, 768, 80<<30) {
			t.Errorf("512×768 is cut into %d×%d with %d bytes", tiling.Height, tiling.Width, budget)
		}
	}
	if tiling, _ := m.FitTiling(Size{121, 1024, 1024}, 24<<30); tiling != ChooseTiling(1024, 1024, 80<<30) {
		t.Errorf("with plenty of memory the tiling is %+v, not the reference's", tiling)
	}
	if _, err := m.FitTiling(size, 300<<20); err == nil {
		t.Error("300 MiB are said to be enough")
	}
	if _, err := m.FitTiling(Size{120, 512, 768}, 24<<30); err == nil {
		t.Error("120 frames are accepted")
	}
}

func TestWholeFramesDecodeInAThirdOfTheReferencesMemory(t *testing.T) {
	for _, c := range []struct {
		precision load.Precision
		limit     float64 // GiB
	}{{load.Mixed, 4.5}, {load.Float32, 9}} {
		need, err := published(c.precision).DecodeNeed(Size{121, 512, 768}, ChooseTiling(512, 768, 80<<30), false)
		if err != nil {
			t.Fatal(err)
		}
		if gib := float64(need.Bytes()) / (1 << 30); gib > c.limit {
			t.Errorf("%v: %.2f GiB, want at most %.1f", c.precision, gib, c.limit)
		}
	}
}

func TestNeedsThatNoDeviceCanMeetAreErrors(t *testing.T) {
	m := published(load.Float32)
	m.Limits.MaxAllocation = 100 << 20 // a frame of 512×768 and 256 channels is 402 MB
	if _, err := m.DecodeNeed(Size{1, 512, 768}, Tiling{}, false); err == nil {
		t.Error("a frame larger than an allocation is accepted")
	}
	m = published(load.Float32)
	m.Limits.MaxStorageRange = 16 << 20 // 5 latent frames of 64×96 places and 512 channels are 63 MB
	if _, err := m.DecodeNeed(Size{17, 512, 768}, Tiling{}, false); err == nil {
		t.Error("attention over more keys than a binding holds is accepted")
	}
	m.Config.BlockOutChannels = []int{128, 256, 512, 1024}
	if _, err := m.EncodeNeed(Size{1, 64, 64}, Tiling{}); err == nil {
		t.Error("an attention head of 1024 channels is accepted")
	}
	if _, err := m.EncodeNeed(Size{1, 60, 64}, Tiling{}); err == nil {
		t.Error("60 rows are accepted")
	}
}
