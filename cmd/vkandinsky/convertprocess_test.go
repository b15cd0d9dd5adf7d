package main

import (
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/convert"
)

// modelWith is a copy of the tiny model whose transformer is the file that make writes to the path it is given.
func modelWith(t *testing.T, name string, make func(path string)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors")); err != nil {
		t.Fatal(err)
	}
	make(filepath.Join(dir, "transformer", name))
	return dir
}

// still makes a small picture with a model and returns its levels.
func still(t *testing.T, dir string, more ...string) []float64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.png")
	startOK(t, append([]string{"--checkpoint-dir", dir, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--prompt", "A fox runs.",
		"--width", "48", "--height", "32", "--video-duration", "0", "--sample-steps", "2", "-o", path}, more...)...)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return levels(picture)
}

func levels(p image.Image) (out []float64) {
	for y := p.Bounds().Min.Y; y < p.Bounds().Max.Y; y++ {
		for x := p.Bounds().Min.X; x < p.Bounds().Max.X; x++ {
			r, g, b, _ := p.At(x, y).RGBA()
			out = append(out, float64(r>>8), float64(g>>8), float64(b>>8))
		}
	}
	return out
}

// TestConvertedModelsMakeNearlyTheSamePicture goes the user's road: convert, inspect, generate. (Package kandinsky5 tests every
// type.) The numbers are levels of 256, root mean square: what the types differed by when this was written, two and a half
// times over. Random weights of a small network forgive less than a trained one.
func TestConvertedModelsMakeNearlyTheSamePicture(t *testing.T) {
	want := still(t, tinyModel)
	for _, c := range []struct {
		typ, file string
		limit     float64
		flags     []string
	}{
		{"bf16", "x.gguf", 0, nil},
		{"int8", "x.safetensors", 2, []string{"--enable-block-swap", "--blocks-in-memory", "2"}},
		{"q4_0", "x.gguf", 45, []string{"--blocks-in-memory", "2", "--host-tier", "mapped"}},
	} {
		t.Run(c.typ, func(t *testing.T) {
			var made convert.Report
			dir := modelWith(t, c.file, func(path string) {
				parseJSON(t, startOK(t, "convert", tinyModel, path, "--type", c.typ, "--json", "-q").stdout, &made)
			})
			if made.Parameters == 0 || len(made.SHA256) != 64 || (made.Error.RMS == 0) != (c.limit == 0) {
				t.Errorf("convert says %+v", made)
			}
			if out := startOK(t, "inspect", "--values", dir).stdout; !strings.Contains(out, "nothing is missing or wrong") {
				t.Errorf("inspect says\n%s", out)
			}
			got := still(t, dir, c.flags...)
			if len(got) != len(want) {
				t.Fatalf("%d levels, want %d", len(got), len(want))
			}
			var squares float64
			for i := range got {
				squares += (got[i] - want[i]) * (got[i] - want[i])
			}
			rms := math.Sqrt(squares / float64(len(got)))
			t.Logf("rms %.3f levels", rms)
			if !(rms <= c.limit) || rms == 0 && c.limit > 5 {
				t.Errorf("the picture is off by %.3f levels, allowed %g", rms, c.limit)
			}
			// Codes that a file has are not coded again.
			if c.typ == "int8" && !slices.Equal(still(t, dir, "--host-weights", "int8"), got) {
				t.Error("the picture changes when the blocks wait in the eight bits that their file has")
			}
		})
	}
}

func TestConvertAsText(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.gguf")
	o := startOK(t, "convert", tinyModel, out, "--type", "Q5_1")
	for _, want := range []string{"q5_1", "rms", "max", "worst tensor", "sha256", out} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("convert does not say %q:\n%s", want, o.stdout)
		}
	}
	start(t, "convert", tinyModel, out, "--type", "q5_1").wantLine(t, exitBadInput, "exists")
	startOK(t, "convert", tinyModel, out, "--type", "q4_1", "--overwrite", "-q")
	start(t, "convert", tinyModel, out).wantLine(t, exitBadInput, "--type")
	start(t, "convert", tinyModel, "--type", "int8").wantLine(t, exitBadInput, "name the old and the new file")
	start(t, "convert", tinyModel, out, "--type", "q4_k").wantLine(t, exitBadInput, "q4_0")
	start(t, "convert", tinyModel, out, "--type", "int8", "--overwrite").wantLine(t, exitBadInput, ".safetensors")
	start(t, "convert", tinyModel, out, "--type", "q4_0", "--component", "lora").wantLine(t, exitBadInput, "lora")
}

func TestBrokenQuantisedCheckpointsAreBadInput(t *testing.T) {
	for _, c := range []struct {
		name, file, typ, want string
		damage                func(data []byte) []byte
	}{
		{"a truncated GGUF file", "x.gguf", "q8_0", "truncated", func(d []byte) []byte { return d[:len(d)-100] }},
		{"a GGUF file of 2^63 tensors", "x.gguf", "q8_0", "9223372036854775808 tensors", func(d []byte) []byte { d[15] |= 0x80; clear(d[8:15]); return d }},
		{"int8 without its last bytes", "x.safetensors", "int8", "truncated", func(d []byte) []byte { return d[:len(d)-100] }},
		{"int8 whose first scale is NaN", "x.safetensors", "int8", "NaN or infinite", nanScale},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := modelWith(t, c.file, func(path string) {
				startOK(t, "convert", tinyModel, path, "--type", c.typ, "-q")
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, c.damage(data), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			start(t, "inspect", "--values", dir).wantLine(t, exitBadInput, c.want, c.file)
			output := filepath.Join(t.TempDir(), "x.png")
			start(t, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--checkpoint-dir", dir, "--prompt", "fox", "--video_duration", "0", "--width", "32", "--height", "32", "-o", output).
				wantLine(t, exitBadInput, c.want, c.file)
			start(t, "convert", dir, output+".gguf", "--type", "q4_0").wantLine(t, exitBadInput, c.want, c.file)
			wantEmpty(t, filepath.Dir(output))
		})
	}
}

// nanScale makes the first number of the file's widest type, which scales are, a NaN.
func nanScale(d []byte) []byte {
	at := 8 + int(uint64(d[0])|uint64(d[1])<<8|uint64(d[2])<<16)
	d[at+2], d[at+3] = 0xc0, 0x7f
	return d
}

func TestBlocksThatWaitInEightBits(t *testing.T) {
	pinned := still(t, tinyModel, "--host-weights", "int8", "--blocks-in-memory", "2", "--validate")
	mapped := still(t, tinyModel, "--host-weights", "int8", "--blocks-in-memory", "1", "--host-tier", "mapped")
	if !slices.Equal(pinned, mapped) {
		t.Error("the picture depends on how blocks in eight bits are held")
	}
	start(t, "--checkpoint-dir", tinyModel, "--prompt", "fox", "--host-weights", "int4").wantLine(t, exitBadInput, "--host-weights", "int8")
	if out := startOK(t, "plan", "--checkpoint-dir", tinyModel, "--host-weights", "int8", "--blocks-in-memory", "2").stdout; !strings.Contains(out, "unpacked") {
		t.Errorf("plan does not say what unpacking takes:\n%s", out)
	}
}
