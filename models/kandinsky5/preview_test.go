package kandinsky5

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// TestColoursOfALinearDecoderAreFound makes a picture of patches by a known map and asks for the map.
func TestColoursOfALinearDecoderAreFound(t *testing.T) {
	const channels = 16
	random := rand.New(rand.NewPCG(3, 4))
	want := make(colours, channels+1)
	for k := range want {
		for i := range want[k] {
			want[k][i] = 0.05 * random.NormFloat64()
		}
	}
	for i := range want[channels] {
		want[channels][i] = 0.5
	}
	latents := patches(channels)
	small := want.clip(latents, 1, patchEdge, patchEdge)
	picture := &Clip{Frames: 1, Height: 8 * patchEdge, Width: 8 * patchEdge, Pix: make([]uint8, 3*64*patchEdge*patchEdge)}
	for y := range picture.Height {
		for x := range picture.Width {
			copy(picture.Pix[3*(y*picture.Width+x):][:3], small.Pix[3*(y/8*patchEdge+x/8):])
		}
	}
	got, err := fitColours(latents, picture, channels)
	if err != nil {
		t.Fatal(err)
	}
	for k := range want {
		for i := range want[k] {
			// Colours are rounded to 1/255 and there are 36 samples for 17 unknowns.
			if !(math.Abs(got[k][i]-want[k][i]) < 0.005) {
				t.Errorf("channel %d adds %.4f to colour %d, want %.4f", k, got[k][i], i, want[k][i])
			}
		}
	}
}

func TestAStepsDirectionLeadsToTheCleanClip(t *testing.T) {
	clean, noise := []float32{1, -2, 0.5}, []float32{0.3, 4, -1}
	at := func(t float32) []float32 {
		out := make([]float32, len(clean))
		for k := range out {
			out[k] = (1-t)*clean[k] + t*noise[k]
		}
		return out
	}
	for _, step := range [][2]float32{{1, 0.75}, {0.5, 0.25}, {0.25, 0}} {
		for k, v := range predicted(at(step[0]), at(step[1]), step[0], step[1]) {
			if !(math.Abs(float64(v-clean[k])) < 1e-5) {
				t.Errorf("from %g to %g: value %d is predicted %g, want %g", step[0], step[1], k, v, clean[k])
			}
		}
	}
}

// continuePreview looks at the previews of a run: the last step's is the clip that is decoded, in small, and the first frame
// is the picture's throughout.
func continuePreview(t *testing.T, d *engine.Device) {
	c := smallCheckpoint(t)
	r := pictureRequest()
	r.Steps, r.Preview = 2, true
	var previews []*Clip
	r.AfterStep = func(f Finished) (Decision, error) {
		previews = append(previews, f.Preview())
		return Go, nil
	}
	generate(t, d, c, Options{}, r)
	if len(previews) != 2 {
		t.Fatalf("%d previews", len(previews))
	}
	for k, p := range previews {
		if p.Frames != 1 || p.Height != 4 || p.Width != 4 || len(p.Pix) != 48 {
			t.Errorf("preview %d is %d frames of %d×%d", k, p.Frames, p.Width, p.Height)
		}
		if k > 0 && string(p.Pix) != string(previews[0].Pix) {
			t.Errorf("the only frame is the picture, which preview %d changes", k)
		}
	}
}
