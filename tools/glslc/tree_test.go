package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
	"github.com/vkandinsky/vkandinsky/shaders/spirv"
)

const scaleSource = `#version 450
//@variant scale_{X} X=f32|i32 T={X}
#include "types.glsl"
layout(local_size_x = 64) in;
layout(constant_id = 3) const uint ROW_STEP = 1;
layout(push_constant) uniform Push { uint n; float by; uvec2 row_stride; } pc;
layout(set = 0, binding = 0) buffer Data { NUMBER x[]; };
void main() {
	uint i = gl_GlobalInvocationID.x * ROW_STEP;
	if (i < pc.n) x[i] = NUMBER(float(x[i]) * pc.by);
}
`

const typesSource = `
#define NUMBER_f32 float
#define NUMBER_i32 int
#define JOIN(a, b) a##b
#define NUMBER_OF(t) JOIN(NUMBER_, t)
#define NUMBER NUMBER_OF(T)
`

// newTree makes a shader folder with the real compiler and the given files.
func newTree(t *testing.T, files map[string]string) (*tree, *bytes.Buffer) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, filepath.Join(dir, name), text)
	}
	c, err := newCompiler(t.Context(), filepath.Join(testdata.Root(), "scripts", "glslc.sh"), filepath.Join(dir, "include"))
	if err != nil {
		t.Fatal(err)
	}
	out := &bytes.Buffer{}
	return &tree{dir: dir, out: out, compiler: c}, out
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func scaleTree(t *testing.T) (*tree, *bytes.Buffer) {
	t.Helper()
	return newTree(t, map[string]string{"scale.comp": scaleSource, "include/types.glsl": typesSource})
}

func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error lacks %q:\n%v", text, err)
		}
	}
}

func TestBuildWritesModulesAndGoThatCheckAccepts(t *testing.T) {
	tr, out := scaleTree(t)
	if err := tr.build(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	source := string(get(t, tr.goFile("scale")))
	for _, want := range []string{
		"DO NOT EDIT", `ScaleF32 = "scale_f32"`, `ScaleI32 = "scale_i32"`, "type ScalePush struct", "RowStride [2]uint32",
		"By        float32", "type ScaleSpec struct", "RowStep uint32 // id 3",
	} {
		if !strings.Contains(source, want) {
			t.Errorf("generated Go lacks %q:\n%s", want, source)
		}
	}
	for _, name := range []string{"scale_f32", "scale_i32"} {
		in, err := spirv.Reflect(get(t, tr.module(name)))
		if err != nil {
			t.Fatal(err)
		}
		if in.PushSize != 16 || len(in.Bindings) != 1 || in.LocalSize[0] != 64 {
			t.Errorf("%s reflects as %+v", name, in)
		}
	}
	if err := tr.check(t.Context(), nil); err != nil {
		t.Errorf("fresh output is called stale: %v", err)
	}
	out.Reset()
	if err := tr.build(t.Context(), nil, false); err != nil || !strings.Contains(out.String(), "0 modules written, 1 of 1 files were current") {
		t.Errorf("a second build compiled again: %v\n%s", err, out)
	}
}

func TestBuildIsDeterministicAcrossFolders(t *testing.T) {
	a, _ := scaleTree(t)
	b, _ := scaleTree(t)
	for _, tr := range []*tree{a, b} {
		if err := tr.build(t.Context(), nil, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []func(*tree) string{
		func(t *tree) string { return t.module("scale_f32") },
		func(t *tree) string { return t.goFile("scale") },
	} {
		if !bytes.Equal(get(t, path(a)), get(t, path(b))) {
			t.Errorf("%s and %s differ", path(a), path(b))
		}
	}
}

func TestCheckFindsWhatIsStale(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, tr *tree)
		want  string
	}{
		{"a changed source", func(t *testing.T, tr *tree) {
			put(t, filepath.Join(tr.dir, "scale.comp"), scaleSource+"\n// changed\n")
		}, "scale_gen.go: made from another source"},
		{"a changed include", func(t *testing.T, tr *tree) {
			put(t, filepath.Join(tr.dir, "include/types.glsl"), typesSource+"\n// changed\n")
		}, "scale_gen.go: made from another source"},
		{"a changed module", func(t *testing.T, tr *tree) {
			put(t, tr.module("scale_i32"), "nonsense")
		}, "scale_i32.spv: differs"},
		{"a missing module", func(t *testing.T, tr *tree) {
			if err := os.Remove(tr.module("scale_i32")); err != nil {
				t.Fatal(err)
			}
		}, "scale_i32.spv: missing"},
		{"an edited Go file", func(t *testing.T, tr *tree) {
			put(t, tr.goFile("scale"), strings.Replace(string(get(t, tr.goFile("scale"))), "By ", "Factor ", 1))
		}, "scale_gen.go: differs"},
		{"an orphaned module", func(t *testing.T, tr *tree) {
			put(t, tr.module("gone"), "")
		}, "gone.spv: no shader declares it"},
		{"a missing Go file", func(t *testing.T, tr *tree) {
			if err := os.Remove(tr.goFile("scale")); err != nil {
				t.Fatal(err)
			}
		}, "scale_gen.go"},
	}
	base, _ := scaleTree(t)
	if err := base.build(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(base.dir)); err != nil {
				t.Fatal(err)
			}
			c := *base.compiler
			c.include = filepath.Join(dir, "include")
			tr := &tree{dir: dir, out: &bytes.Buffer{}, compiler: &c}
			tt.spoil(t, tr)
			wantError(t, tr.check(t.Context(), nil), "stale", tt.want)
			if err := tr.build(t.Context(), nil, true); err != nil {
				t.Fatal(err)
			}
			if err := tr.check(t.Context(), nil); err != nil {
				t.Errorf("still stale after a build: %v", err)
			}
		})
	}
}

func TestAnotherCompilerIsNoReasonToCallModulesStale(t *testing.T) {
	tr, out := scaleTree(t)
	if err := tr.build(t.Context(), nil, false); err != nil {
		t.Fatal(err)
	}
	tr.compiler.version = "another"
	put(t, tr.module("scale_i32"), "made by another compiler")
	out.Reset()
	if err := tr.check(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "0 compared byte for byte") {
		t.Errorf("check says %q", out)
	}
}

func TestFailuresAreAllReportedAndSpareTheOthers(t *testing.T) {
	tr, _ := newTree(t, map[string]string{
		"scale.comp": scaleSource, "include/types.glsl": typesSource,
		"bad.comp":   "#version 450\n//@variant bad_{X} X=a|b\nvoid main() { wrong; }\n",
		"worse.comp": "#version 450\nvoid main() { return 1; }\n",
	})
	err := tr.build(t.Context(), nil, false)
	wantError(t, err, "3 variants failed", "bad.comp:3", "'wrong' : undeclared identifier", "in variant bad_a, bad_b", "worse.comp:2")
	if strings.Count(err.Error(), "undeclared identifier") != 1 {
		t.Errorf("one mistake is reported more than once:\n%v", err)
	}
	get(t, tr.module("scale_f32"))
	wantError(t, tr.check(t.Context(), nil), "3 variants failed")
}

func TestMistakesOfAFileAreRefused(t *testing.T) {
	const body = "layout(local_size_x = 1) in;\nlayout(set = 0, binding = 0) buffer B { uint b[]; };\n"
	tests := []struct{ name, source, want string }{
		{"push constants that differ between variants", `#version 450
//@variant s_{X} X=a|b
//@variant s_c C
` + body + `layout(push_constant) uniform P {
#ifdef C
	float f;
#else
	uint n;
#endif
} pc;
void main() { b[0] = uint(pc.
#ifdef C
	f
#else
	n
#endif
); }`, "have different push constants"},
		{"129 bytes of push constants", "#version 450\n" + body +
			"layout(push_constant) uniform P { uint n[33]; } pc;\nvoid main() { b[0] = pc.n[32]; }", "132 bytes of push constants"},
		{"a bool that defaults to true", "#version 450\n" + body +
			"layout(constant_id = 0) const bool ON = true;\nvoid main() { if (ON) b[0] = 1; }", "must default to false"},
		{"a missing include", "#version 450\n#include \"none.glsl\"\nvoid main() {}", "none.glsl"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tr, _ := newTree(t, map[string]string{"s.comp": tt.source})
			wantError(t, tr.build(t.Context(), nil, false), tt.want)
		})
	}
}

func TestAMissingCompilerIsAnError(t *testing.T) {
	_, err := newCompiler(t.Context(), filepath.Join(t.TempDir(), "glslc"), "")
	wantError(t, err, "cannot run", "modern-vulkan.sh")
}

func TestGoNamesFollowTheRule(t *testing.T) {
	for name, want := range map[string]string{
		"row_stride": "RowStride", "M": "M", "TILE_M": "TileM", "matmul_gemv": "MatmulGemv", "f32": "F32", "headDim": "HeadDim",
		"x_0": "X0", "EPS": "Eps",
	} {
		if got := goName(name); got != want {
			t.Errorf("goName(%q) = %q, want %q", name, got, want)
		}
	}
}
