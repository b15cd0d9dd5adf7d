package spirv

import (
	"encoding/binary"
	"strings"
)

// Strip removes source text, line numbers, processing notes and the names of everything that is no part of the
// interface. What stays are the names of buffers, blocks and their members and specialization constants: a
// module that is optimised and stripped this way is small and independent of the folder it was compiled in, and
// still reflects with names.
func Strip(code []byte) ([]byte, error) {
	module, err := words(code)
	if err != nil {
		return nil, err
	}
	keep, err := namedInterface(module)
	if err != nil {
		return nil, err
	}
	out := append([]uint32(nil), module[:headerWords]...)
	printf := false
	err = each(module, func(in instruction) error {
		switch in.op {
		case opSourceContinued, opSource, opSourceExtension, opLine, opNoLine, opModuleProcessed:
			return nil
		case opExtInstImport:
			// debugPrintf takes its formats from strings, which otherwise only name source files.
			printf = printf || strings.HasPrefix(text(in.operands[1:]), "NonSemantic.")
		case opString:
			if !printf {
				return nil
			}
		case opName, opMemberName:
			if !keep[in.operands[0]] {
				return nil
			}
		}
		out = append(out, module[in.start:in.end]...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	stripped := make([]byte, 0, 4*len(out))
	for _, w := range out {
		stripped = binary.LittleEndian.AppendUint32(stripped, w)
	}
	return stripped, nil
}

// namedInterface collects the ids whose names Strip keeps.
func namedInterface(module []uint32) (map[uint32]bool, error) {
	t := newTables()
	if err := each(module, t.collect); err != nil {
		return nil, err
	}
	keep := map[uint32]bool{}
	for id := range t.specIDs {
		keep[id] = true
	}
	for _, v := range t.variables {
		if v.class == classStorageBuffer || v.class == classPushConstant {
			keep[v.id] = true
			keep[t.types[v.pointer].element] = true
		}
	}
	return keep, nil
}
