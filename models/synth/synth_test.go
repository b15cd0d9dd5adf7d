package synth

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestSmallModelsAreSoundAndTheirConfigurationsFindThem(t *testing.T) {
	for _, name := range []string{Tiny, Demo} {
		t.Run(name, func(t *testing.T) {
			m, err := Preset(name)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "модель")
			if err := m.Write(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			found, err := weights.InspectWith(t.Context(), dir, weights.InspectOptions{Values: true})
			if err != nil {
				t.Fatal(err)
			}
			if !found.OK() || len(found.Components) != 4 {
				t.Fatalf("%d networks, problems %v", len(found.Components), found.Problems)
			}
			var bytes int64
			for _, c := range found.Components {
				bytes += c.Bytes
			}
			if bytes != m.Bytes() {
				t.Errorf("Bytes says %d, %d were written", m.Bytes(), bytes)
			}
			for _, file := range ConfigFiles() {
				config, err := configs.Load(filepath.Join(dir, file))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := kandinsky5.OpenCheckpoint(config, ""); err != nil {
					t.Errorf("%s does not find its networks: %v", file, err)
				}
				if want := configs.PipelineOf(file); config.Pipeline != want {
					t.Errorf("%s is for %s", file, config.Pipeline)
				}
			}
		})
	}
}

func TestEveryConfigurationCanBeSynthesised(t *testing.T) {
	for _, name := range configs.Presets() {
		m, err := Preset(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Weights.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want := m.Config.Model.DiT.Parameters(); weights.DiTSpec(m.Weights.DiT).Parameters() != want {
			t.Errorf("%s: the transformer would have %d weights, the configuration says %d", name, weights.DiTSpec(m.Weights.DiT).Parameters(), want)
		}
	}
}

func TestTheDemonstrationHasEnoughToSwap(t *testing.T) {
	m, err := Preset(Demo)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Weights.DiT.NumVisualBlocks; n < 8 {
		t.Errorf("%d visual blocks, want 8 or more", n)
	}
	if d := m.Weights.DiT.HeadDim(); d != 64 {
		t.Errorf("heads of %d channels, want 64 as published", d)
	}
}

func TestUnknownNamesAndFullFoldersAreRefused(t *testing.T) {
	if _, err := Preset("huge"); err == nil {
		t.Error("an unknown name was accepted")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, _ := Preset(Tiny)
	if err := m.Write(t.Context(), dir); err == nil {
		t.Error("a folder with a file in it was overwritten")
	}
}
