package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// The functions in this file compute element by element in fp32 and round once, on the store. Every tensor is f32, bf16
// or f16 for itself, so each of them also converts. An output may be one of the inputs that have its type and size. A
// second or third input of fewer elements is one row: it must have as many elements as the output's last axis and is
// used again for every row. Work is cut over elements as the device needs it, with the same results.

// elementwise op numbers, as in elementwise.comp.
const (
	opAffine = iota
	opAxpby
	opMul
	opActivate
	opActivateMul
	opGate
	opEuler
)

// Cast records y = x in y's type.
func Cast(s *engine.Stream, y, x engine.Tensor) { Affine(s, y, x, 1, 0) }

// Affine records y = alpha·x + beta.
func Affine(s *engine.Stream, y, x engine.Tensor, alpha, beta float32) {
	elementwise{name: "affine", op: opAffine, a: x, y: y, alpha: alpha, beta: beta}.record(s)
}

// Add records y = a + b: a residual, a bias, position embeddings.
func Add(s *engine.Stream, y, a, b engine.Tensor) { Axpby(s, y, 1, a, 1, b) }

// Axpby records y = alpha·a + beta·b.
func Axpby(s *engine.Stream, y engine.Tensor, alpha float32, a engine.Tensor, beta float32, b engine.Tensor) {
	elementwise{name: "axpby", op: opAxpby, a: a, b: b, y: y, alpha: alpha, beta: beta}.record(s)
}

// Mul records y = alpha·a·b.
func Mul(s *engine.Stream, y engine.Tensor, alpha float32, a, b engine.Tensor) {
	elementwise{name: "mul", op: opMul, a: a, b: b, y: y, alpha: alpha}.record(s)
}

// Activate records y = f(x).
func Activate(s *engine.Stream, y, x engine.Tensor, f Activation) {
	elementwise{name: "activate", op: opActivate, activation: f, a: x, y: y}.record(s)
}

// ActivateMul records y = f(a)·b; with SiLU it is the gate of a SwiGLU layer.
func ActivateMul(s *engine.Stream, y, a, b engine.Tensor, f Activation) {
	elementwise{name: "activate mul", op: opActivateMul, activation: f, a: a, b: b, y: y}.record(s)
}

// GatedAdd records y = x + out·gate, the residual of a modulated transformer block (kandinsky-5,
// kandinsky/models/nn.py, apply_gate_sum).
func GatedAdd(s *engine.Stream, y, x, out, gate engine.Tensor) {
	elementwise{name: "gated add", op: opGate, a: x, b: out, c: gate, y: y}.record(s)
}

// EulerArgs are the operands of EulerStep.
type EulerArgs struct {
	Latents engine.Tensor // updated in place
	Cond    engine.Tensor // velocity for the prompt
	Uncond  engine.Tensor // velocity for the negative prompt; none: no guidance
	// Guidance weighs the difference of the two velocities.
	Guidance float32
	// Delta is the step in time, t_{i+1} − t_i, a negative number.
	Delta float32
}

// EulerStep records latents ← latents + Δ·v with v = uncond + guidance·(cond − uncond), or v = cond without guidance
// (kandinsky-5, kandinsky/generation_utils.py, get_velocity and generate).
func EulerStep(s *engine.Stream, a EulerArgs) {
	if a.Uncond.IsZero() {
		Axpby(s, a.Latents, 1, a.Latents, a.Delta, a.Cond)
		return
	}
	elementwise{name: "euler", op: opEuler, a: a.Latents, b: a.Cond, c: a.Uncond, y: a.Latents, alpha: a.Delta, beta: a.Guidance}.record(s)
}

// elementwise is one call of elementwise.comp.
type elementwise struct {
	name        string
	op          uint32
	activation  Activation
	a, b, c, y  engine.Tensor
	alpha, beta float32
}

// check returns the number of rows and their length: cuts fall between rows.
func (e elementwise) check() (rows, row int) {
	bad := func(why string) {
		panic(fmt.Sprintf("ops: %s: %s: y %v, inputs %v, %v, %v", e.name, why, e.y, e.a, e.b, e.c))
	}
	if !floats(e.a, e.y) || e.a.Elems() != e.y.Elems() {
		bad("input and output must be float tensors of the same size")
	}
	if e.op != opAffine && e.op != opActivate && e.b.IsZero() || e.op >= opGate && e.c.IsZero() {
		bad("an input is missing")
	}
	row = 1
	if n := len(e.y.Shape); n > 0 {
		row = e.y.Dim(-1)
	}
	for _, t := range []engine.Tensor{e.b, e.c} {
		if !t.IsZero() && (!t.DType.IsFloat() || t.Elems() != e.y.Elems() && t.Elems() != int64(row)) {
			bad("inputs must have the output's size or be one row of it")
		}
	}
	if e.y.Elems() == 0 {
		return 0, row
	}
	return int(e.y.Elems() / int64(row)), row
}

func (e elementwise) record(s *engine.Stream) {
	if s.Err() != nil {
		return
	}
	rows, row := e.check()
	caps := s.Device().Caps()
	isRow := func(t engine.Tensor) bool { return !t.IsZero() && t.Elems() != e.y.Elems() }
	vec := row%4 == 0 && quadAligned(e.a, e.b, e.c, e.y)
	if !isRow(e.b) && !isRow(e.c) {
		// Rows have no meaning then: fours may span them.
		total := int64(rows) * int64(row)
		vec = total%4 == 0 && quadAligned(e.a, e.b, e.c, e.y)
		row = 1
		if vec {
			row = 4
		}
		rows = int(total / int64(row))
	}
	spec := shaders.ElementwiseSpec{AType: uint32(e.a.DType), BType: uint32(e.b.DType), CType: uint32(e.c.DType), YType: uint32(e.y.DType),
		Op: e.op, Activation: uint32(e.activation), BRow: isRow(e.b), CRow: isRow(e.c), Vec: vec}.Values()
	cost := 8 * float64(row)
	piece := pieceSize(caps, e.name, rows, cost, int64(row)*e.a.DType.Size(), int64(row)*e.y.DType.Size(), int64(row)*e.b.DType.Size(), int64(row)*e.c.DType.Size())
	for at := 0; at < rows; at += piece {
		count := int64(min(piece, rows-at)) * int64(row)
		push := shaders.ElementwisePush{Count: uint32(count), Row: uint32(row), Alpha: e.alpha, Beta: e.beta}
		view := func(t engine.Tensor) (engine.Tensor, uint32) {
			if isRow(t) {
				return alignedView(caps, t, 0, int64(row))
			}
			return alignedView(caps, t, int64(at)*int64(row), count)
		}
		bind := make([]engine.Tensor, 4)
		bind[0], push.ABase = view(e.a)
		bind[1], push.BBase = view(e.b)
		bind[2], push.CBase = view(e.c)
		bind[3], push.YBase = view(e.y)
		invocations := count
		if vec {
			invocations /= 4
		}
		s.Dispatch(engine.Call{
			Shader: shaders.Elementwise, Spec: spec, Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, (invocations+elementsPerGroup-1)/elementsPerGroup),
			Cost:   8 * float64(count), Label: fmt.Sprintf("%s %d", e.name, count),
		})
	}
}
