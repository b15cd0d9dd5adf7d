package tiny

import (
	"io/fs"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/shapes"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestTheModelInTheProgramIsWholeAndSmall(t *testing.T) {
	var bytes int64
	err := fs.WalkDir(files, "checkpoint", func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if bytes > 12e6 {
		t.Errorf("the checkpoint takes %d bytes, which every copy of the program carries", bytes)
	}
	c, err := Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	if n := c.Config.Model.DiT.NumVisualBlocks; n < 8 {
		t.Errorf("%d visual blocks: swapping would be no matter", n)
	}
	networks, err := Networks()
	if err != nil {
		t.Fatal(err)
	}
	for part, spec := range map[weights.Component]weights.Spec{
		weights.DiT: weights.DiTSpec(networks.DiT), weights.VAE: weights.VAESpec(networks.VAE),
		weights.Qwen: weights.QwenSpec(networks.Qwen), weights.CLIP: weights.CLIPSpec(networks.CLIP),
	} {
		ckpt, err := c.Layout.Part(part).Open(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := weights.Check(ckpt, spec).Err(); err != nil {
			t.Errorf("%s: %v", part, err)
		}
		if err := ckpt.CheckFinite(t.Context()); err != nil {
			t.Errorf("%s: %v", part, err)
		}
		if err := ckpt.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheConfigurationIsThatOfTheCheckpoint(t *testing.T) {
	c, err := Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	ckpt, err := c.Layout.DiT.Open(weights.DiT)
	if err != nil {
		t.Fatal(err)
	}
	stored, _, err := weights.LoadDiTConfig(c.Layout.DiT, ckpt)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range kandinsky5.DiTConfig(c.Config).Differences(stored) {
		t.Error(d)
	}
}

func TestThePictureIsARedCircleWithRoomToTheRight(t *testing.T) {
	picture, err := Picture()
	if err != nil {
		t.Fatal(err)
	}
	found, ok := shapes.Find(picture)
	if !ok || shapes.Nearest(found.Color) != "red" || found.X > 0.4*float64(picture.Width) || picture.Height != 128 || picture.Width != 128 {
		t.Fatalf("%d×%d, found %v: colour %v at %.1f, %.1f", picture.Width, picture.Height, ok, found.Color, found.X, found.Y)
	}
}
