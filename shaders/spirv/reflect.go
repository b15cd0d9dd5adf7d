package spirv

import (
	"fmt"
	"sort"
)

// Access tells what a shader may do with a buffer, as its readonly and writeonly qualifiers say.
type Access uint8

// Read and Write are bits, ReadWrite is both.
const (
	Read      Access = 1
	Write     Access = 2
	ReadWrite Access = Read | Write
)

// String returns "read", "write" or "readwrite".
func (a Access) String() string {
	switch a {
	case Read:
		return "read"
	case Write:
		return "write"
	case ReadWrite:
		return "readwrite"
	}
	return fmt.Sprintf("Access(%d)", uint8(a))
}

// Binding is one storage buffer of descriptor set 0. Buffers that the optimiser found unused do not appear.
type Binding struct {
	// Index is the binding number.
	Index uint32
	// Name is the block's instance name, or the block's own name where it has no instance.
	Name   string
	Access Access
}

// Scalar is the type of a push-constant element or specialization constant.
type Scalar uint8

// The scalar types that a host fills in.
const (
	Bool Scalar = iota + 1
	Int32
	Uint32
	Float32
	Int64
	Uint64
)

// Bytes returns the size of one value; Bool counts as the 4 bytes of VkBool32.
func (s Scalar) Bytes() int {
	if s == Int64 || s == Uint64 {
		return 8
	}
	return 4
}

// SpecConst is one specialization constant of 32 bits.
type SpecConst struct {
	ID   uint32
	Name string
	Type Scalar
	// Default holds the bits of the value taken when a pipeline sets none; 0 or 1 for Bool.
	Default uint32
}

// Member is one push constant.
type Member struct {
	Name string
	Type Scalar
	// Count is the number of elements: 1 for a scalar, 2 to 4 for a vector, more for an array of scalars.
	Count int
	// Array tells an array (or vector) from a scalar.
	Array bool
	// Offset is in bytes from the start of the push-constant range.
	Offset int
}

// Interface is everything a host needs to bind and dispatch a compute shader.
type Interface struct {
	// Bindings are sorted by index.
	Bindings []Binding
	// Push lists the push constants by offset; PushSize is the bytes they span, a multiple of 4.
	Push     []Member
	PushSize int
	// Spec lists the specialization constants by id.
	Spec []SpecConst
	// LocalSize is the number of invocations per workgroup along x, y, z when nothing is specialised.
	LocalSize [3]uint32
	// LocalSizeSpec holds, per axis, the specialization constant that sets the local size, or -1.
	LocalSizeSpec [3]int
	// Capabilities and Extensions are named as in the SPIR-V specification, sorted.
	Capabilities []string
	Extensions   []string
}

// Reflect reads the interface of a module with one GLCompute entry point named "main".
//
// It refuses what the engine could not honour: other descriptor sets, resources that are no storage buffers,
// push constants that are neither scalars, vectors nor arrays of scalars, and 64-bit specialization constants.
func Reflect(code []byte) (Interface, error) {
	module, err := words(code)
	if err != nil {
		return Interface{}, err
	}
	t := newTables()
	if err := each(module, t.collect); err != nil {
		return Interface{}, err
	}
	if t.entryPoints != 1 {
		return Interface{}, fmt.Errorf("spirv: module has %d compute entry points, want one", t.entryPoints)
	}
	out := Interface{Capabilities: t.capabilities, Extensions: t.extensions}
	sort.Strings(out.Capabilities)
	sort.Strings(out.Extensions)
	if out.Bindings, err = t.bindings(); err != nil {
		return Interface{}, err
	}
	if out.Push, out.PushSize, err = t.push(); err != nil {
		return Interface{}, err
	}
	if out.LocalSize, out.LocalSizeSpec, err = t.resolveLocalSize(); err != nil {
		return Interface{}, err
	}
	if out.Spec, err = t.spec(out.LocalSizeSpec); err != nil {
		return Interface{}, err
	}
	return out, nil
}

func (t *tables) bindings() ([]Binding, error) {
	var out []Binding
	for _, v := range t.variables {
		if v.class != classStorageBuffer {
			if _, bound := t.decoration(v.id, decorationBinding); bound {
				return nil, fmt.Errorf("spirv: resource %q is no storage buffer", t.names[v.id])
			}
			continue
		}
		name := t.names[v.id]
		block := t.types[t.types[v.pointer].element]
		if name == "" {
			name = t.names[block.id]
		}
		index, bound := t.decoration(v.id, decorationBinding)
		if set, _ := t.decoration(v.id, decorationDescriptorSet); !bound || set != 0 {
			return nil, fmt.Errorf("spirv: buffer %q needs a binding in descriptor set 0", name)
		}
		if block.op != opTypeStruct {
			return nil, fmt.Errorf("spirv: buffer %q is an array of buffers, which is not supported", name)
		}
		access := t.access(v.id, block)
		if access == 0 {
			return nil, fmt.Errorf("spirv: buffer %q may be neither read nor written", name)
		}
		out = append(out, Binding{Index: index, Name: name, Access: access})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Index < out[j].Index })
	return merge(out), nil
}

// merge joins buffers that alias one binding (the same memory seen as scalars and as vectors, for instance).
func merge(in []Binding) []Binding {
	var out []Binding
	for _, b := range in {
		if n := len(out); n > 0 && out[n-1].Index == b.Index {
			out[n-1].Access |= b.Access
			continue
		}
		out = append(out, b)
	}
	return out
}

// access reads the qualifiers, which glslang puts on the variable, on every member of the block, or on both.
func (t *tables) access(variable uint32, block typeInfo) Access {
	has := func(decoration uint32) bool {
		if _, ok := t.decoration(variable, decoration); ok {
			return true
		}
		for m := range block.members {
			if _, ok := t.memberDecoration(block.id, uint32(m), decoration); !ok {
				return false
			}
		}
		return len(block.members) > 0
	}
	access := ReadWrite
	if has(decorationNonWritable) {
		access &^= Write
	}
	if has(decorationNonReadable) {
		access &^= Read
	}
	return access
}

func (t *tables) push() ([]Member, int, error) {
	var out []Member
	size := 0
	for _, v := range t.variables {
		if v.class != classPushConstant {
			continue
		}
		if out != nil {
			return nil, 0, fmt.Errorf("spirv: more than one push-constant block")
		}
		block := t.types[t.types[v.pointer].element]
		if block.op != opTypeStruct {
			return nil, 0, fmt.Errorf("%w: push constants are no block", ErrInvalid)
		}
		for i, typ := range block.members {
			m, err := t.member(block.id, uint32(i), typ)
			if err != nil {
				return nil, 0, err
			}
			out = append(out, m)
			size = max(size, m.Offset+m.Count*m.Type.Bytes())
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Offset < out[j].Offset })
	for i := 1; i < len(out); i++ {
		if prev := out[i-1]; prev.Offset+prev.Count*prev.Type.Bytes() > out[i].Offset {
			return nil, 0, fmt.Errorf("spirv: push constants %q and %q overlap", prev.Name, out[i].Name)
		}
	}
	return out, size, nil
}

func (t *tables) member(block, index, typ uint32) (Member, error) {
	m := Member{Name: t.memberNames[memberKey{block, index}], Count: 1}
	offset, ok := t.memberDecoration(block, index, decorationOffset)
	if !ok || offset > 1<<16 {
		return m, fmt.Errorf("%w: push constant %q has no usable offset", ErrInvalid, m.Name)
	}
	m.Offset = int(offset)
	info := t.types[typ]
	switch info.op {
	case opTypeVector:
		m.Count, m.Array = int(info.count), true
		info = t.types[info.element]
	case opTypeArray:
		m.Count, m.Array = int(t.constants[info.count].bits), true
		stride, _ := t.decoration(typ, decorationArrayStride)
		info = t.types[info.element]
		if s := info.scalar(); s != 0 && int(stride) != s.Bytes() {
			return m, fmt.Errorf("spirv: push constant array %q has a stride of %d bytes: use the scalar layout", m.Name, stride)
		}
	}
	m.Type = info.scalar()
	if m.Type == 0 || m.Type == Bool || m.Count < 1 || m.Count > 1<<10 {
		return m, fmt.Errorf("spirv: push constant %q has a type other than 32- or 64-bit int, uint, float and vectors or arrays of them", m.Name)
	}
	return m, nil
}
