package shaders_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/shaders"
)

func TestEveryEmbeddedModuleReflects(t *testing.T) {
	names := shaders.Names()
	if len(names) == 0 {
		t.Fatal("no modules embedded")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s, ok := shaders.Get(name)
			if !ok {
				t.Fatal("not found by its own name")
			}
			if s.Name != name {
				t.Errorf("name is %q", s.Name)
			}
			if len(s.Bindings) == 0 {
				t.Error("a shader without buffers has no effect")
			}
			if s.PushSize > 128 || s.PushSize%4 != 0 {
				t.Errorf("push constants take %d bytes, want a multiple of 4 up to 128", s.PushSize)
			}
			if !s.Needs("Shader") {
				t.Errorf("capabilities %v lack Shader", s.Capabilities)
			}
			if n := s.LocalSize[0] * s.LocalSize[1] * s.LocalSize[2]; n == 0 || n > 1024 {
				t.Errorf("local size %v", s.LocalSize)
			}
		})
	}
}

func TestAnUnknownNameIsNotFound(t *testing.T) {
	for _, name := range []string{"", "no_such_shader", "../shaders", "fill.spv"} {
		if _, ok := shaders.Get(name); ok {
			t.Errorf("%q was found", name)
		}
		if shaders.SPIRV(name) != nil {
			t.Errorf("%q has SPIR-V", name)
		}
	}
}

func TestFillIsDescribedAsItsSourceSays(t *testing.T) {
	want := shaders.Shader{
		Name:          "fill",
		Bindings:      []shaders.Binding{{Index: 0, Name: "Words", Access: shaders.Write}},
		PushSize:      12,
		LocalSize:     [3]uint32{256, 1, 1},
		LocalSizeSpec: [3]int{0, -1, -1},
		Capabilities:  []string{"Shader"},
	}
	got, ok := shaders.Get(shaders.Fill)
	if !ok {
		t.Fatal("no fill")
	}
	got.Spec = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fill (-want +got):\n%s", diff)
	}
}

func TestGeneratedStructsEncodeWhatTheShaderReads(t *testing.T) {
	push := shaders.FillPush{First: 1, Count: 0x01020304, Pattern: 0xfffefdfc}.Append([]byte{9})
	want := []byte{9, 1, 0, 0, 0, 4, 3, 2, 1, 0xfc, 0xfd, 0xfe, 0xff}
	if !bytes.Equal(push, want) {
		t.Errorf("push constants are %v, want %v", push, want)
	}
	s, _ := shaders.Get(shaders.Fill)
	if len(push)-1 != s.PushSize {
		t.Errorf("push constants take %d bytes, the shader reads %d", len(push)-1, s.PushSize)
	}
	if got := (shaders.FillSpec{}).Values(); got != nil {
		t.Errorf("zero fields gave %v, want nothing", got)
	}
	values := shaders.FillSpec{LocalSizeX: 64}.Values()
	if got := s.Workgroup(values); got != [3]uint32{64, 1, 1} {
		t.Errorf("workgroup is %v, want 64 1 1", got)
	}
	if got := s.Workgroup(nil); got != s.LocalSize {
		t.Errorf("workgroup without values is %v, want %v", got, s.LocalSize)
	}
}

func BenchmarkGet(b *testing.B) {
	name := shaders.Names()[0]
	for b.Loop() {
		shaders.Get(name)
	}
}
