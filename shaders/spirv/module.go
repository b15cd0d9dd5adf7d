// Package spirv reads what a compute program needs to know about a SPIR-V module: which storage buffers it
// binds and whether it reads or writes them, the layout of its push constants, its specialization constants,
// its workgroup size and the capabilities a device must have.
//
// It is no general SPIR-V library: it knows the shapes that glslc makes of one GLSL compute shader with
// descriptor set 0, and returns an error for anything else instead of guessing. Everything here is a pure
// function of its input and safe for concurrent use.
//
// Opcode and enumerant numbers are those of the SPIR-V specification, version 1.6.
package spirv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrInvalid is wrapped by every error about a module that is truncated or breaks the SPIR-V rules.
var ErrInvalid = errors.New("spirv: invalid module")

const (
	magic       = 0x07230203
	headerWords = 5
	// maxBound limits the tables that Reflect allocates: the SPIR-V universal limit on result ids is 4,194,303.
	maxBound = 1 << 22
)

const (
	opSourceContinued    = 2
	opSource             = 3
	opSourceExtension    = 4
	opName               = 5
	opMemberName         = 6
	opString             = 7
	opLine               = 8
	opExtension          = 10
	opExtInstImport      = 11
	opEntryPoint         = 15
	opExecutionMode      = 16
	opCapability         = 17
	opTypeBool           = 20
	opTypeInt            = 21
	opTypeFloat          = 22
	opTypeVector         = 23
	opTypeArray          = 28
	opTypeStruct         = 30
	opTypePointer        = 32
	opConstant           = 43
	opSpecConstantTrue   = 48
	opSpecConstantFalse  = 49
	opSpecConstant       = 50
	opConstantComposite  = 44
	opSpecConstComposite = 51
	opVariable           = 59
	opDecorate           = 71
	opMemberDecorate     = 72
	opNoLine             = 317
	opModuleProcessed    = 330
	opExecutionModeID    = 331
)

const (
	decorationSpecID        = 1
	decorationArrayStride   = 6
	decorationBuiltIn       = 11
	decorationNonWritable   = 24
	decorationNonReadable   = 25
	decorationBinding       = 33
	decorationDescriptorSet = 34
	decorationOffset        = 35

	builtInWorkgroupSize = 25

	executionModelGLCompute = 5
	modeLocalSize           = 17
	modeLocalSizeID         = 38

	classPushConstant  = 9
	classStorageBuffer = 12
)

// instruction is one decoded instruction: operands exclude the word that holds opcode and length.
type instruction struct {
	op       uint32
	operands []uint32
	// start and end delimit the instruction in the module's words.
	start, end int
}

// words converts a module's bytes, refusing what cannot be one.
func words(code []byte) ([]uint32, error) {
	if len(code)%4 != 0 || len(code) < 4*headerWords {
		return nil, fmt.Errorf("%w: %d bytes are not a whole header and whole words", ErrInvalid, len(code))
	}
	out := make([]uint32, len(code)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(code[4*i:])
	}
	if out[0] != magic {
		return nil, fmt.Errorf("%w: magic number %#x, want %#x", ErrInvalid, out[0], magic)
	}
	if out[3] > maxBound {
		return nil, fmt.Errorf("%w: id bound %d exceeds %d", ErrInvalid, out[3], maxBound)
	}
	return out, nil
}

// each calls visit for every instruction in order until visit returns an error.
func each(module []uint32, visit func(instruction) error) error {
	for at := headerWords; at < len(module); {
		length := int(module[at] >> 16)
		if length == 0 || at+length > len(module) {
			return fmt.Errorf("%w: instruction at word %d claims %d words of %d left",
				ErrInvalid, at, length, len(module)-at)
		}
		in := instruction{op: module[at] & 0xffff, operands: module[at+1 : at+length], start: at, end: at + length}
		if want := minOperands[in.op]; len(in.operands) < want {
			return fmt.Errorf("%w: instruction %d at word %d has %d operands, want at least %d",
				ErrInvalid, in.op, at, len(in.operands), want)
		}
		if err := visit(in); err != nil {
			return err
		}
		at += length
	}
	return nil
}

// minOperands keeps every operand that the reader touches unconditionally inside the instruction.
var minOperands = map[uint32]int{
	opName: 2, opMemberName: 3, opExtension: 1, opExtInstImport: 2, opEntryPoint: 3, opExecutionMode: 2,
	opCapability: 1, opTypeBool: 1, opTypeInt: 3, opTypeFloat: 2, opTypeVector: 3, opTypeArray: 3,
	opTypeStruct: 1, opTypePointer: 3, opConstant: 3, opSpecConstantTrue: 2, opSpecConstantFalse: 2,
	opSpecConstant: 3, opConstantComposite: 2, opSpecConstComposite: 2, opVariable: 3, opDecorate: 2,
	opMemberDecorate: 3, opExecutionModeID: 2,
}

// text decodes a literal string: UTF-8 bytes packed into words, ended by a zero byte.
func text(operands []uint32) string {
	var out []byte
	for _, w := range operands {
		for shift := 0; shift < 32; shift += 8 {
			c := byte(w >> shift)
			if c == 0 {
				return string(out)
			}
			out = append(out, c)
		}
	}
	return string(out)
}
