package spirv

import (
	"fmt"
	"sort"
	"strings"
)

type memberKey struct{ block, index uint32 }

type decorationKey struct{ target, decoration uint32 }

type memberDecorationKey struct{ block, index, decoration uint32 }

// typeInfo describes a type. element is what a pointer, vector or array holds, count a vector's length or the id
// of an array's length, width and signed a number's.
type typeInfo struct {
	id, op, element, count, width uint32
	signed                        bool
	members                       []uint32
}

func (t typeInfo) scalar() Scalar {
	switch {
	case t.op == opTypeBool:
		return Bool
	case t.op == opTypeFloat && t.width == 32:
		return Float32
	case t.op == opTypeInt && t.width == 32 && t.signed:
		return Int32
	case t.op == opTypeInt && t.width == 32:
		return Uint32
	case t.op == opTypeInt && t.width == 64 && t.signed:
		return Int64
	case t.op == opTypeInt && t.width == 64:
		return Uint64
	}
	return 0
}

type variable struct{ id, pointer, class uint32 }

// constant is a scalar constant or the parts of a composite one.
type constant struct {
	typ, bits uint32
	wide      bool
	parts     []uint32
}

// tables gathers, in one pass, what the questions about a module need.
type tables struct {
	entryPoints       int
	capabilities      []string
	extensions        []string
	names             map[uint32]string
	memberNames       map[memberKey]string
	decorations       map[decorationKey]uint32
	memberDecorations map[memberDecorationKey]uint32
	types             map[uint32]typeInfo
	variables         []variable
	constants         map[uint32]constant
	specIDs           map[uint32]uint32 // result id → specialization constant id
	specOrder         []uint32
	workgroupSize     uint32 // id of the composite decorated with the built-in, 0 for none
	localSize         [3]uint32
	localSizeIDs      [3]uint32
}

func newTables() *tables {
	return &tables{
		names: map[uint32]string{}, memberNames: map[memberKey]string{},
		decorations: map[decorationKey]uint32{}, memberDecorations: map[memberDecorationKey]uint32{},
		types: map[uint32]typeInfo{}, constants: map[uint32]constant{}, specIDs: map[uint32]uint32{},
	}
}

func (t *tables) collect(in instruction) error {
	o := in.operands
	switch in.op {
	case opCapability:
		t.capabilities = append(t.capabilities, CapabilityName(o[0]))
	case opExtension:
		t.extensions = append(t.extensions, text(o))
	case opEntryPoint:
		if o[0] != executionModelGLCompute || text(o[2:]) != "main" {
			return fmt.Errorf("spirv: entry point %q is no compute shader's main", text(o[2:]))
		}
		t.entryPoints++
	case opExecutionMode, opExecutionModeID:
		return t.executionMode(o)
	case opName:
		t.names[o[0]] = text(o[1:])
	case opMemberName:
		t.memberNames[memberKey{o[0], o[1]}] = text(o[2:])
	case opDecorate:
		t.decorate(o)
	case opMemberDecorate:
		t.memberDecorations[memberDecorationKey{o[0], o[1], o[2]}] = operand(o, 3)
	case opVariable:
		t.variables = append(t.variables, variable{id: o[1], pointer: o[0], class: o[2]})
	case opConstant, opSpecConstant:
		t.constants[o[1]] = constant{typ: o[0], bits: o[2], wide: len(o) > 3}
	case opSpecConstantTrue:
		t.constants[o[1]] = constant{typ: o[0], bits: 1}
	case opSpecConstantFalse:
		t.constants[o[1]] = constant{typ: o[0]}
	case opConstantComposite, opSpecConstComposite:
		t.constants[o[1]] = constant{typ: o[0], parts: o[2:]}
	default:
		t.collectType(in)
	}
	return nil
}

func (t *tables) collectType(in instruction) {
	o := in.operands
	switch in.op {
	case opTypeBool:
		t.types[o[0]] = typeInfo{id: o[0], op: in.op}
	case opTypeInt:
		t.types[o[0]] = typeInfo{id: o[0], op: in.op, width: o[1], signed: o[2] != 0}
	case opTypeFloat:
		// A third operand names another encoding than IEEE's, such as bfloat16: never a host scalar.
		info := typeInfo{id: o[0], op: in.op, width: o[1]}
		if len(o) > 2 {
			info.width = 0
		}
		t.types[o[0]] = info
	case opTypeVector, opTypeArray:
		t.types[o[0]] = typeInfo{id: o[0], op: in.op, element: o[1], count: o[2]}
	case opTypeStruct:
		t.types[o[0]] = typeInfo{id: o[0], op: in.op, members: o[1:]}
	case opTypePointer:
		t.types[o[0]] = typeInfo{id: o[0], op: in.op, element: o[2]}
	}
}

func (t *tables) decorate(o []uint32) {
	value := operand(o, 2)
	t.decorations[decorationKey{o[0], o[1]}] = value
	switch {
	case o[1] == decorationSpecID:
		if _, seen := t.specIDs[o[0]]; !seen {
			t.specOrder = append(t.specOrder, o[0])
		}
		t.specIDs[o[0]] = value
	case o[1] == decorationBuiltIn && value == builtInWorkgroupSize:
		t.workgroupSize = o[0]
	}
}

func (t *tables) executionMode(o []uint32) error {
	into := &t.localSize
	switch o[1] {
	case modeLocalSize:
	case modeLocalSizeID:
		into = &t.localSizeIDs
	default:
		return nil
	}
	if len(o) != 5 {
		return fmt.Errorf("%w: local size with %d operands, want 5", ErrInvalid, len(o))
	}
	copy(into[:], o[2:])
	return nil
}

// resolveLocalSize returns the default workgroup size and the specialization constants behind it. SPIR-V says it
// in three ways: literals, ids (1.6), or a composite constant decorated with the built-in, which wins.
func (t *tables) resolveLocalSize() (size [3]uint32, spec [3]int, err error) {
	parts := t.localSizeIDs[:]
	switch {
	case t.workgroupSize != 0:
		parts = t.constants[t.workgroupSize].parts
	case t.localSizeIDs == [3]uint32{}:
		return t.localSize, [3]int{-1, -1, -1}, nil
	}
	if len(parts) != 3 {
		return size, spec, fmt.Errorf("%w: workgroup size with %d parts", ErrInvalid, len(parts))
	}
	for axis, id := range parts {
		c, ok := t.constants[id]
		if !ok || c.parts != nil {
			return size, spec, fmt.Errorf("spirv: workgroup size along axis %d is no plain or specialization constant", axis)
		}
		size[axis], spec[axis] = c.bits, -1
		if specID, ok := t.specIDs[id]; ok {
			spec[axis] = int(specID)
		}
	}
	return size, spec, nil
}

// spec lists the specialization constants. glslang names none that only sets the local size: those get the name
// of the axis.
func (t *tables) spec(localSize [3]int) ([]SpecConst, error) {
	var out []SpecConst
	seen := map[uint32]bool{}
	for _, id := range t.specOrder {
		c, ok := t.constants[id]
		specID := t.specIDs[id]
		s := SpecConst{ID: specID, Name: t.names[id], Type: t.types[c.typ].scalar(), Default: c.bits}
		for axis, name := range []string{"local_size_x", "local_size_y", "local_size_z"} {
			if s.Name == "" && localSize[axis] == int(specID) {
				s.Name = name
			}
		}
		if !ok || c.wide || s.Type == 0 || s.Type.Bytes() != 4 {
			return nil, fmt.Errorf("spirv: specialization constant %d %q is no 32-bit int, uint, float or bool", specID, s.Name)
		}
		if seen[specID] {
			// local_size_x_id and a named constant with one id: glslang emits both; the named one is kept.
			out = preferNamed(out, s)
			continue
		}
		seen[specID] = true
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out, nil
}

func preferNamed(list []SpecConst, s SpecConst) []SpecConst {
	for i := range list {
		if list[i].ID == s.ID && strings.HasPrefix(list[i].Name, "local_size_") {
			list[i].Name = s.Name
		}
	}
	return list
}

func (t *tables) decoration(target, decoration uint32) (uint32, bool) {
	v, ok := t.decorations[decorationKey{target, decoration}]
	return v, ok
}

func (t *tables) memberDecoration(block, index, decoration uint32) (uint32, bool) {
	v, ok := t.memberDecorations[memberDecorationKey{block, index, decoration}]
	return v, ok
}

func operand(o []uint32, i int) uint32 {
	if i < len(o) {
		return o[i]
	}
	return 0
}
