package configs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestYAMLReadsBackToTheSameConfiguration(t *testing.T) {
	where := cmpopts.IgnoreFields(Config{}, "Name", "File", "Dir")
	for _, name := range Presets() {
		t.Run(name, func(t *testing.T) {
			want, err := Preset(name)
			if err != nil {
				t.Fatal(err)
			}
			text, err := want.YAML()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), name+".yaml")
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Load(path)
			if err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if diff := cmp.Diff(want, got, where, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("read back (-want +got):\n%s", diff)
			}
		})
	}
}

func TestYAMLQuotesWhatYAMLWouldMisread(t *testing.T) {
	c, err := Preset("k5_lite_t2v_5s_sft_sd")
	if err != nil {
		t.Fatal(err)
	}
	c.Model.CheckpointPath = "C:\\модель: #1\\yes"
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode("x.yaml", "x", text)
	if err != nil {
		t.Fatal(err)
	}
	if got.Model.CheckpointPath != c.Model.CheckpointPath {
		t.Errorf("path %q came back as %q", c.Model.CheckpointPath, got.Model.CheckpointPath)
	}
}
