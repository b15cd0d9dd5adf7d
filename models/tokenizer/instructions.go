package tokenizer

import (
	_ "embed" // the texts lie in files, as their blanks are part of the data
	"strings"
)

// Instruction is what the language model is told when it writes a prompt out, with "{prompt}" where the prompt goes.
type Instruction struct {
	Name string
	Text string
}

// promptMark is replaced by the prompt.
const promptMark = "{prompt}"

// Fill puts a prompt into the instruction.
func (i Instruction) Fill(prompt string) string {
	return strings.Replace(i.Text, promptMark, prompt, 1)
}

// Instructions lists the instructions (kandinsky-5, kandinsky/t2v_pipeline.py, i2v_pipeline.py and t2i_pipeline.py).
// Spelling errors and indentation are part of the data.
func Instructions() []Instruction {
	return []Instruction{ExpandT2V(), ExpandI2V(), ExpandT2I()}
}

// ExpandT2V is the instruction for everything that a video model makes from a prompt alone, also a single picture.
func ExpandT2V() Instruction { return Instruction{"t2v", expandT2V} }

// ExpandI2V is the instruction for videos from a picture; the picture comes before it.
func ExpandI2V() Instruction { return Instruction{"i2v", expandI2V} }

// ExpandT2I is the instruction of upstream's image models. No video pipeline selects it.
func ExpandT2I() Instruction { return Instruction{"t2i", expandT2I} }

//go:embed instructions/t2v.txt
var expandT2V string

//go:embed instructions/i2v.txt
var expandI2V string

//go:embed instructions/t2i.txt
var expandT2I string
