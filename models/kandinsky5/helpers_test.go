package kandinsky5

import (
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// smallCheckpoint writes a random-weight model in the Diffusers layout and opens it as an image-to-video model.
func smallCheckpoint(t testing.TB) *Checkpoint {
	t.Helper()
	return openSmall(t, smallModel(t))
}

// smallModel writes a random-weight model, as small as still has every part, and returns its folder.
func smallModel(t testing.TB) string {
	t.Helper()
	return smallModelOf(t, 4, 2)
}

// smallModelOf has so many visual blocks and layers of the text encoder.
func smallModelOf(t testing.TB, blocks, layers int) string {
	t.Helper()
	o := weights.SmallSynth()
	o.DiT.NumVisualBlocks, o.Qwen.Text.NumHiddenLayers, o.CLIP.NumHiddenLayers = blocks, layers, 1
	dir := filepath.Join(t.TempDir(), "small-i2v")
	if err := weights.Synth(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openSmall(t testing.TB, dir string) *Checkpoint {
	t.Helper()
	c, err := OpenDiffusers(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Config.Pipeline = configs.I2V
	return c
}

// smallPicture is a gradient with a square.
func smallPicture() *Image {
	im := &Image{Height: 48, Width: 64, Pix: make([]uint8, 3*48*64)}
	for y := range 48 {
		for x := range 64 {
			p := im.Pix[3*(y*64+x):]
			p[0], p[1], p[2] = uint8(4*x), uint8(5*y), 80
			if x > 20 && x < 40 && y > 10 && y < 30 {
				p[0], p[1], p[2] = 230, 30, 40
			}
		}
	}
	return im
}

// smallRequest is a second of video, of 25 frames, with guidance.
func smallRequest() Request {
	r := pictureRequest()
	r.Seconds, r.Steps, r.Guidance = 1, 2, 4
	return r
}

// pictureRequest is a single frame in a single step without guidance: the least that goes through every stage.
func pictureRequest() Request {
	negative := "blurred"
	return Request{Prompt: "a red square turns", NegativePrompt: &negative, Image: smallPicture(), Width: 32, Height: 32, Steps: 1, Guidance: 1, Seed: 7}
}

// guidedRequest is a single frame in two steps with guidance.
func guidedRequest() Request {
	r := pictureRequest()
	r.Steps, r.Guidance = 2, 4
	return r
}

func generate(t *testing.T, d *engine.Device, c *Checkpoint, o Options, r Request) *Result {
	t.Helper()
	p, err := New(t.Context(), d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	result, err := p.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}
