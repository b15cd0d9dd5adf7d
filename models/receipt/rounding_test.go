package receipt

import (
	"strings"
	"testing"
)

func sampleRounding() Rounding {
	return Rounding{Device: "gpu", Driver: "driver 1", Kernels: "matrix", Matrices: "bf16→f32 16×16×16", Operands: PackedOperands, Adapters: "host", Tuned: "2, 00ff", Code: "c0de", Tiles: "512×512"}
}

// TestCausesAreNamedWhereWhatWasComputedDiffers changes one thing that decides last bits at a time: without another step it is a
// note, with one it is a cause as well.
func TestCausesAreNamedWhereWhatWasComputedDiffers(t *testing.T) {
	for name, change := range map[string]func(*Receipt){
		"device":                         func(r *Receipt) { r.Rounding.Device = "other" },
		"driver":                         func(r *Receipt) { r.Rounding.Driver = "driver 2" },
		"kernel tier":                    func(r *Receipt) { r.Rounding.Kernels = "base" },
		"matrices":                       func(r *Receipt) { r.Rounding.Matrices += ", with fragments" },
		"operands of linear layers":      func(r *Receipt) { r.Rounding.Operands = PlainOperands },
		"place where adapters are added": func(r *Receipt) { r.Rounding.Adapters = "device" },
		"tuned tiles of matmul 4096": func(r *Receipt) {
			r.Device.Tuned = map[string]string{"matmul 4096": "64x64"}
			r.Rounding.Tuned = "1, aa"
		},
		"code of kernel variants gemm": func(r *Receipt) { r.Device.Shaders["gemm"] = "99"; r.Rounding.Code = "beef" },
	} {
		a, b := sample(), sample()
		a.Rounding, b.Rounding = sampleRounding(), sampleRounding()
		change(b)
		if c := Compare(a, b); !c.Same || len(c.Notes) != 1 || c.Notes[0].Name != name || len(c.Causes) != 0 {
			t.Errorf("%s: %+v", name, c)
		}
		b.Digests.Latents[1] = Sum([]byte("other"))
		if c := Compare(a, b); c.Same || c.First.Step != 2 || len(c.Causes) != 1 || c.Causes[0].Name != name {
			t.Errorf("%s, with another step: %+v", name, c)
		}
	}
	a, b := sample(), sample()
	a.Rounding, b.Rounding = sampleRounding(), sampleRounding()
	b.Rounding.Operands, b.Settings.Seed = PlainOperands, 3
	if c := Compare(a, b); c.Same || len(c.Causes) != 0 {
		t.Errorf("another seed that changed nothing has causes: %+v", c)
	}
}

// TestReceiptsWithoutRoundingTellOfTheirDevice reads what older programs wrote.
func TestReceiptsWithoutRoundingTellOfTheirDevice(t *testing.T) {
	old := sample()
	if got, want := old.Known(), (Rounding{Device: "gpu", Driver: "driver 1", Kernels: "fp16"}); got != want {
		t.Errorf("%+v", got)
	}
	if d := old.Known().Against(sampleRounding()); len(d) != 1 || d[0].Name != "kernel tier" {
		t.Errorf("%+v", d)
	}
}

func TestARunThatGoesOnElsewhereSaysSo(t *testing.T) {
	before, now := sampleRounding(), sampleRounding()
	now.Operands, now.Tiles = PlainOperands, "256×256"
	if got := now.After(before, 0); got != now {
		t.Errorf("before the first step: %+v", got)
	}
	after := now.After(before, 5)
	want := before
	want.Operands, want.Tiles = "packed to step 5, then not packed", "256×256"
	if after != want {
		t.Errorf("%+v", after)
	}
	if again := now.After(after, 7); again != want {
		t.Errorf("a second time: %+v", again)
	}
	if !strings.HasSuffix(after.Operands, PlainOperands) {
		t.Error("what counts last does not stand last")
	}
}

func TestHostileRoundingsAreRefused(t *testing.T) {
	for _, text := range []string{"a\nb", "\x1b[2J", "\x00", strings.Repeat("x", maxPath+1)} {
		r := sample()
		r.Rounding.Matrices = text
		if _, err := Parse(encoded(t, r)); err == nil || !strings.Contains(err.Error(), "matrices") || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%.20q gives %v", text, err)
		}
	}
}
