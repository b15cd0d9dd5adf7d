// Package shaders holds the compute shaders: their GLSL sources (*.comp, include/*.glsl), the SPIR-V compiled from
// them (spv/*.spv, committed and embedded, so that building the program needs no shader compiler), and Go types for
// their push constants and specialization constants (*_gen.go).
//
// One source file yields one or more variants, declared in its header comment; a variant's name is its identity,
// and the generated string constants (for example Fill, "fill") spell the names so that a missing one does not
// compile. `make shaders` regenerates everything, tools/glslc documents the header syntax, and docs/shaders.md tells
// how to write a shader.
//
// The package is data and pure functions: it knows no device and imports nothing else of the program.
package shaders

import (
	"embed"
	"fmt"
	"sort"
	"strings"

	"github.com/vkandinsky/vkandinsky/shaders/spirv"
)

//go:embed spv/*.spv
var compiled embed.FS

// Binding, Access and SpecConst describe a shader's interface; see package spirv.
type (
	Binding   = spirv.Binding
	Access    = spirv.Access
	SpecConst = spirv.SpecConst
)

// What a shader does with a bound buffer.
const (
	Read      = spirv.Read
	Write     = spirv.Write
	ReadWrite = spirv.ReadWrite
)

// Shader is what the engine needs to know about one variant. Bindings are storage buffers of descriptor set 0,
// sorted by number; one that the optimiser found unused is absent, so numbers may have gaps.
type Shader struct {
	// Name is the variant's name, for example "matmul_f32".
	Name     string
	Bindings []Binding
	// PushSize is the size in bytes of the push constants: a multiple of 4, at most 128, 0 for none.
	PushSize int
	Spec     []SpecConst
	// LocalSize is the default workgroup size in invocations. LocalSizeSpec holds, per axis, the id of the
	// specialization constant that sets it, or -1.
	LocalSize     [3]uint32
	LocalSizeSpec [3]int
	// Capabilities are the SPIR-V capabilities the device must support, by their names in the specification
	// ("Float16", "StorageBuffer16BitAccess", "CooperativeMatrixKHR" and so on), sorted.
	Capabilities []string
	// Extensions are the SPIR-V extensions that the module names, sorted.
	Extensions []string
}

// SpecValue sets one specialization constant. Bits are the value's bits: 0 or 1 for a bool, IEEE bits for a float.
type SpecValue struct {
	ID, Bits uint32
}

// Get returns the interface of a variant, and false when there is none of that name. It reads the SPIR-V each
// time (tens of microseconds), so it belongs where pipelines are made, not where work is recorded.
func Get(name string) (Shader, bool) {
	code := SPIRV(name)
	if code == nil {
		return Shader{}, false
	}
	in, err := spirv.Reflect(code)
	if err != nil {
		// The tool that writes spv/ reflects every module first, so a bad one is a damaged build.
		panic(fmt.Sprintf("shaders: embedded module %s: %v", name, err))
	}
	return Shader{
		Name: name, Bindings: in.Bindings, PushSize: in.PushSize, Spec: in.Spec,
		LocalSize: in.LocalSize, LocalSizeSpec: in.LocalSizeSpec,
		Capabilities: in.Capabilities, Extensions: in.Extensions,
	}, true
}

// SPIRV returns the module of a variant, ready for vkCreateShaderModule, or nil when there is none of that name.
// The caller owns the slice.
func SPIRV(name string) []byte {
	code, err := compiled.ReadFile("spv/" + name + ".spv")
	if err != nil {
		return nil
	}
	return code
}

// Names returns the names of all variants, sorted.
func Names() []string {
	entries, err := compiled.ReadDir("spv")
	if err != nil {
		panic(fmt.Sprintf("shaders: embedded folder: %v", err))
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".spv"))
	}
	sort.Strings(names)
	return names
}

// Workgroup returns the workgroup size, in invocations along x, y and z, of a pipeline made with these values.
func (s Shader) Workgroup(values []SpecValue) [3]uint32 {
	size := s.LocalSize
	for axis, id := range s.LocalSizeSpec {
		for _, v := range values {
			if id >= 0 && v.ID == uint32(id) {
				size[axis] = v.Bits
			}
		}
	}
	return size
}

// Needs tells whether the variant uses a SPIR-V capability, named as in the specification.
func (s Shader) Needs(capability string) bool {
	i := sort.SearchStrings(s.Capabilities, capability)
	return i < len(s.Capabilities) && s.Capabilities[i] == capability
}
