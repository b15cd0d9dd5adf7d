package spirv_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/shaders/spirv"
)

// testdata/probe.spv and probe13.spv are testdata/probe.comp compiled by
// `glslc -g -O --target-env=vulkan1.2` and `--target-env=vulkan1.3`.
func read(t testing.TB, name string) []byte {
	t.Helper()
	code, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return code
}

func probe() spirv.Interface {
	return spirv.Interface{
		Bindings: []spirv.Binding{
			{Index: 0, Name: "A", Access: spirv.Read},
			{Index: 1, Name: "outp", Access: spirv.Write},
			{Index: 3, Name: "acc", Access: spirv.ReadWrite},
		},
		Push: []spirv.Member{
			{Name: "count", Type: spirv.Uint32, Count: 1, Offset: 0},
			{Name: "v", Type: spirv.Float32, Count: 3, Array: true, Offset: 16},
			{Name: "alpha", Type: spirv.Float32, Count: 1, Offset: 28},
			{Name: "shift", Type: spirv.Int32, Count: 1, Offset: 32},
			{Name: "strides", Type: spirv.Uint32, Count: 5, Array: true, Offset: 36},
			{Name: "big", Type: spirv.Uint64, Count: 1, Offset: 56},
		},
		PushSize: 64,
		Spec: []spirv.SpecConst{
			{ID: 0, Name: "local_size_x", Type: spirv.Uint32, Default: 64},
			{ID: 1, Name: "TILE", Type: spirv.Uint32, Default: 8},
			{ID: 2, Name: "EPS", Type: spirv.Float32, Default: 0x3f000000},
			{ID: 3, Name: "FLAG", Type: spirv.Bool, Default: 0},
			{ID: 4, Name: "LOW", Type: spirv.Int32, Default: 0xfffffffd},
		},
		LocalSize:     [3]uint32{64, 2, 1},
		LocalSizeSpec: [3]int{0, -1, -1},
		Capabilities:  []string{"Int64", "Shader", "StorageBuffer16BitAccess"},
	}
}

func TestReflectReadsTheWholeInterface(t *testing.T) {
	for _, name := range []string{"probe.spv", "probe13.spv"} {
		t.Run(name, func(t *testing.T) {
			got, err := spirv.Reflect(read(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(probe(), got); diff != "" {
				t.Errorf("interface (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStripKeepsTheInterfaceAndDropsTheSource(t *testing.T) {
	code := read(t, "probe.spv")
	stripped, err := spirv.Strip(code)
	if err != nil {
		t.Fatal(err)
	}
	if len(stripped) >= len(code) {
		t.Errorf("stripped module has %d bytes, the original %d", len(stripped), len(code))
	}
	for _, text := range []string{"#version", "probe.comp", "gl_GlobalInvocationID", "GL_EXT_shader_16bit_storage"} {
		if !strings.Contains(string(code), text) {
			t.Errorf("the unstripped module does not contain %q: the test proves nothing", text)
		}
		if strings.Contains(string(stripped), text) {
			t.Errorf("%q survived", text)
		}
	}
	got, err := spirv.Reflect(stripped)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(probe(), got); diff != "" {
		t.Errorf("interface after stripping (-want +got):\n%s", diff)
	}
	again, err := spirv.Strip(stripped)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again, stripped) {
		t.Error("stripping twice differs from stripping once")
	}
}

// module assembles instructions: each is an opcode and its operands.
func module(instructions ...[]uint32) []byte {
	words := []uint32{0x07230203, 0x00010500, 0, 100, 0}
	for _, in := range instructions {
		words = append(words, uint32(len(in))<<16|in[0])
		words = append(words, in[1:]...)
	}
	var out []byte
	for _, w := range words {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

var mainEntry = []uint32{15, 5, 1, 0x6e69616d, 0} // OpEntryPoint GLCompute %1 "main"

func TestReflectRefusesWhatTheEngineCannotBind(t *testing.T) {
	float32Type := []uint32{22, 2, 32}
	tests := []struct {
		name string
		code []byte
		want string
	}{
		{"an empty input", nil, "not a whole header"},
		{"a byte too many", append(module(mainEntry), 0), "not a whole header and whole words"},
		{"another magic number", make([]byte, 20), "magic number"},
		{"no entry point", module(), "0 compute entry points"},
		{"two entry points", module(mainEntry, mainEntry), "2 compute entry points"},
		{"a fragment shader", module([]uint32{15, 4, 1, 0x6e69616d, 0}), "no compute shader's main"},
		{"an instruction longer than the module", append(module(mainEntry), 17, 0, 9, 0), "claims 9 words"},
		{"an instruction of no words", append(module(mainEntry), 0, 0, 0, 0), "claims 0 words"},
		{"an instruction without its operands", append(module(mainEntry), 71, 0, 1, 0), "want at least"},
		{"a second descriptor set", module(mainEntry, []uint32{5, 7, 0x78}, float32Type, []uint32{30, 3, 2},
			[]uint32{32, 4, 12, 3}, []uint32{71, 7, 33, 0}, []uint32{71, 7, 34, 1}, []uint32{59, 4, 7, 12}),
			"needs a binding in descriptor set 0"},
		{"a buffer without binding", module(mainEntry, float32Type, []uint32{30, 3, 2}, []uint32{32, 4, 12, 3},
			[]uint32{59, 4, 7, 12}), "needs a binding"},
		{"an array of buffers", module(mainEntry, float32Type, []uint32{30, 3, 2}, []uint32{29, 5, 3},
			[]uint32{32, 4, 12, 5}, []uint32{71, 7, 33, 0}, []uint32{71, 7, 34, 0}, []uint32{59, 4, 7, 12}), "array of buffers"},
		{"a uniform buffer", module(mainEntry, float32Type, []uint32{30, 3, 2}, []uint32{32, 4, 2, 3},
			[]uint32{71, 7, 33, 0}, []uint32{59, 4, 7, 2}), "no storage buffer"},
		{"a push constant without offset", module(mainEntry, float32Type, []uint32{30, 3, 2}, []uint32{32, 4, 9, 3},
			[]uint32{59, 4, 7, 9}), "no usable offset"},
		{"a push constant of 16 bits", module(mainEntry, []uint32{22, 2, 16}, []uint32{30, 3, 2}, []uint32{32, 4, 9, 3},
			[]uint32{72, 3, 0, 35, 0}, []uint32{59, 4, 7, 9}), "type other than"},
		{"overlapping push constants", module(mainEntry, float32Type, []uint32{30, 3, 2, 2}, []uint32{32, 4, 9, 3},
			[]uint32{72, 3, 0, 35, 0}, []uint32{72, 3, 1, 35, 2}, []uint32{59, 4, 7, 9}), "overlap"},
		{"a 64-bit specialization constant", module(mainEntry, []uint32{21, 2, 64, 0}, []uint32{71, 5, 1, 0},
			[]uint32{50, 2, 5, 1, 0}), "no 32-bit"},
		{"a workgroup size of two parts", module(mainEntry, []uint32{16, 1, 17, 8, 8}), "local size with 4 operands"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := spirv.Reflect(tt.code)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestAliasedBindingsJoinTheirAccess(t *testing.T) {
	// Two views of binding 0, one readonly and one writeonly.
	code := module(mainEntry, []uint32{22, 2, 32}, []uint32{30, 3, 2}, []uint32{32, 4, 12, 3},
		[]uint32{71, 7, 33, 0}, []uint32{71, 7, 34, 0}, []uint32{71, 7, 24}, []uint32{59, 4, 7, 12},
		[]uint32{71, 8, 33, 0}, []uint32{71, 8, 34, 0}, []uint32{71, 8, 25}, []uint32{59, 4, 8, 12})
	got, err := spirv.Reflect(code)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Bindings) != 1 || got.Bindings[0].Access != spirv.ReadWrite {
		t.Errorf("bindings are %v, want one that is read and written", got.Bindings)
	}
}

func TestTruncatedModulesAreRefused(t *testing.T) {
	code := read(t, "probe.spv")
	for n := 0; n < len(code); n++ {
		_, err := spirv.Reflect(code[:n])
		if n%4 != 0 && !errors.Is(err, spirv.ErrInvalid) {
			t.Fatalf("%d of %d bytes: error is %v, want ErrInvalid", n, len(code), err)
		}
	}
}

func FuzzReflect(f *testing.F) {
	f.Add(read(f, "probe.spv"))
	f.Add(read(f, "probe13.spv"))
	f.Add(module(mainEntry))
	f.Fuzz(func(t *testing.T, code []byte) {
		in, err := spirv.Reflect(code)
		stripped, stripErr := spirv.Strip(code)
		if err != nil {
			return
		}
		if stripErr != nil {
			t.Fatalf("reflects but does not strip: %v", stripErr)
		}
		after, err := spirv.Reflect(stripped)
		if err != nil {
			t.Fatalf("stripped module does not reflect: %v", err)
		}
		if diff := cmp.Diff(in.Bindings, after.Bindings); diff != "" {
			t.Fatalf("stripping changed the bindings:\n%s", diff)
		}
	})
}
