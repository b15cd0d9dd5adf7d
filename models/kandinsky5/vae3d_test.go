package kandinsky5

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/convert"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/models/weights/vae3dtest"
)

// TestDecoderOfKandinskyCpp: with an autoencoder as kandinsky.cpp writes it, videos of prompts are those of the original in
// fp16, and a first frame is refused before anything is loaded.
func TestDecoderOfKandinskyCpp(t *testing.T) {
	d, dir := enginetest.Open(t), smallModel(t)
	convertIn(t, dir, weights.VAE, "vae", ".safetensors", convert.F16)
	want := madeOf(t, d, dir, Options{})
	original := filepath.Join(dir, "vae", "new.safetensors")
	vae3dtest.Write(t, original, filepath.Join(dir, "vae", "vae3d.gguf"))
	if err := os.Remove(original); err != nil {
		t.Fatal(err)
	}
	if got := madeOf(t, d, dir, Options{}); !bytes.Equal(got, want) {
		t.Errorf("the picture is off by %g levels", levelsOff(got, want))
	}
	c := openSmall(t, dir)
	p, err := New(t.Context(), d, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, generateErr := p.Generate(t.Context(), pictureRequest())
	_, planErr := PlanRun(c.Config, c, Options{}, pictureRequest(), PlanLimits{})
	for name, err := range map[string]error{"Generate": generateErr, "PlanRun": planErr} {
		if !errors.Is(err, ErrRequest) || !errors.Is(err, weights.ErrNoEncoder) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	c.Config.Pipeline = configs.T2V
	r := pictureRequest()
	r.Image = nil
	if plan, err := PlanRun(c.Config, c, Options{}, r, PlanLimits{}); err != nil || plan.Host.Checkpoint == 0 {
		t.Errorf("plan of a prompt alone: error %v", err)
	}
}
