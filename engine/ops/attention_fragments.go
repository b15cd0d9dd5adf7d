package ops

import (
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// attentionFragments is a tile of attention_fragments.comp: subgroups of so many fragments of 16 queries each, how many keys are taken at a
// time, and whether queries stay in registers.
type attentionFragments struct {
	variant           string
	subs, frags, keys int
	held              bool
}

func (f attentionFragments) queries() int { return f.subs * f.frags * fragmentEdge }

func (f attentionFragments) invocations() int { return f.subs * engine.FragmentLanes }

func (f attentionFragments) name() string {
	name := fmt.Sprintf("fragments %dx%dx%d", f.subs, f.frags, f.keys)
	if f.held {
		name += "+held"
	}
	return name
}

func (f attentionFragments) shader() string { return f.variant }

func (f attentionFragments) push(p shaders.AttentionPush) []byte { return matrixPush(p) }

// longer lets dispatches on matrix units do more work (fragmentDispatch).
func (f attentionFragments) longer(caps engine.Caps) float64 {
	if caps.Fragments == engine.MatrixFragments {
		return fragmentDispatch
	}
	return 1
}

// prepare puts q, k and v in place into the order of fragments, as many heads at a time as a binding holds.
func (f attentionFragments) prepare(s *engine.Stream, a AttentionArgs) {
	packHeads(s, a.Q, LeftFragments)
	packHeads(s, a.K, RightFragments)
	packHeads(s, a.V, ValueFragments)
}

// attentionFragmentTiles are the tiles in order of preference. On an NVIDIA H100 the first gave 345 TFLOP/s, the second 324.
var attentionFragmentTiles = []attentionFragments{
	{subs: 8, frags: 2, keys: 32},
	{subs: 8, frags: 1, keys: 64, held: true},
	{subs: 2, frags: 2, keys: 32},
	// What follows is taken where tuning finds it faster.
	{subs: 4, frags: 2, keys: 32},
	{subs: 4, frags: 1, keys: 64, held: true},
	{subs: 4, frags: 1, keys: 32, held: true},
}

// fragmentDispatch is how much more work than others a dispatch of this kernel may do: 1.6e13 operations take 46 ms on an H100, so less than half a
// second on a card ten times slower. Short dispatches would leave a large card's multiprocessors idle at each one's end: one has
// a workgroup of 256 queries, and 47,616 tokens make 186 of them a head.
const fragmentDispatch = 8

// FragmentDispatchCost is how many operations a dispatch of attention by fragments may have on a device.
func FragmentDispatchCost(caps engine.Caps) float64 { return fragmentDispatch * caps.MaxDispatchCost }

// fragmentHead is the head size of the kernel.
const fragmentHead = 128

// sharedBytes is what a tile takes of a workgroup's shared memory.
func (f attentionFragments) sharedBytes(caps engine.Caps) int64 {
	bytes := int64(512*f.keys + 4)
	if caps.Fragments == engine.EmulatedFragments {
		bytes += int64(1152 * f.subs)
	}
	return bytes
}

// fits tells whether the device can run the tile.
func (f attentionFragments) fits(caps engine.Caps, mode AttentionMode) bool {
	if mode == AttentionBlocks && (f.queries() != 64 || 64%f.keys != 0) {
		return false
	}
	return f.invocations() <= caps.MaxInvocations && f.sharedBytes(caps) <= caps.MaxSharedBytes && 16*f.keys%f.invocations() == 0
}

// packable tells whether q, k and v can be packed in place.
func (a AttentionArgs) packable(z attentionSizes) bool {
	bf16 := a.Q.DType == engine.BF16 && a.K.DType == engine.BF16 && a.V.DType == engine.BF16
	return a.Consume && bf16 && z.dim == fragmentHead && z.tq%fragmentEdge == 0 && z.tk%fragmentEdge == 0 && a.Mask.IsZero()
}

// fragmentTiles lists the tiles of packed fragments that can compute the attention, in order of preference; none where the device has no
// fragments, or q, k and v must stay what they are or cannot be packed in place.
func (a AttentionArgs) fragmentTiles(z attentionSizes, caps engine.Caps) (out []attentionFragments) {
	if caps.Fragments == engine.NoFragments || !a.packable(z) {
		return nil
	}
	for _, f := range attentionFragmentTiles {
		if f.fits(caps, a.Mode) {
			f.variant = attentionFragmentShader(caps)
			out = append(out, f)
		}
	}
	return out
}

// packHeads packs bf16 heads of fragmentHead channels in place.
func packHeads(s *engine.Stream, x engine.Tensor, order FragmentOrder) {
	heads, rows := x.Dim(0), x.Dim(1)
	step := int(max(1, bindRoom(s.Device().Caps())/(int64(rows)*fragmentHead*x.DType.Size())))
	for h := 0; h < heads; h += step {
		part := x.Rows(h, min(h+step, heads))
		packFragments(s, part, part, part.Dim(0), rows, fragmentHead, 1, order)
	}
}

func (f attentionFragments) spec(a AttentionArgs, _ engine.Caps, pairs bool) []shaders.SpecValue {
	return shaders.AttentionFragmentsSpec{Subs: uint32(f.subs), Frags: uint32(f.frags), Keys: uint32(f.keys), Mode: uint32(a.Mode), QHeld: f.held,
		OutType: uint32(a.Out.DType), Pairs: pairs, Whole: a.K.Dim(1)%f.keys == 0, LocalSizeX: uint32(f.invocations())}.Values()
}

// attentionFragmentShader is the variant that the device runs.
func attentionFragmentShader(caps engine.Caps) string {
	return fragmentShader(caps, shaders.AttentionFragments, shaders.AttentionFragmentsEmulated)
}

// attentionByteFragments is the same kernel with scores of signed bytes.
type attentionByteFragments struct{ attentionFragments }

func (f attentionByteFragments) name() string { return "int8 " + f.attentionFragments.name() }

// prepare rounds q and k in place into the order of fragments of bytes, and packs v.
func (f attentionByteFragments) prepare(s *engine.Stream, a AttentionArgs) {
	a.meanKeys(s)
	a.quantizeHeads(s, a.Q, false, leftByteFragments)
	a.quantizeHeads(s, a.K, true, rightByteFragments)
	packHeads(s, a.V, ValueFragments)
}

func (f attentionByteFragments) spec(a AttentionArgs, caps engine.Caps, pairs bool) []shaders.SpecValue {
	return shaders.AttentionFragmentsSpec{Subs: uint32(f.subs), Frags: uint32(f.frags), Keys: uint32(f.keys), Mode: uint32(a.Mode), QHeld: f.held,
		OutType: uint32(a.Out.DType), Pairs: pairs, Whole: a.K.Dim(1)%f.keys == 0, LocalSizeX: uint32(f.invocations()),
		LeftWords: caps.ByteFragments.Left, RightWords: caps.ByteFragments.Right}.Values()
}

// attentionByteFragmentTiles are the tiles in order of preference. None was measured yet: the order is that of the kernel for 16-bit scores. Held
// queries take half of its registers, so two fragments of them may stay.
var attentionByteFragmentTiles = append(slices.Clone(attentionFragmentTiles), attentionFragments{subs: 8, frags: 2, keys: 32, held: true},
	attentionFragments{subs: 4, frags: 2, keys: 32, held: true})

// byteFragmentTiles lists the tiles of fragments that can compute an attention with Int8, in order of preference.
func (a AttentionArgs) byteFragmentTiles(z attentionSizes, caps engine.Caps) (out []attentionKernel) {
	if bytes := caps.ByteFragments.Kind; bytes == engine.NoFragments || bytes != caps.Fragments || !a.Half || !a.packable(z) ||
		a.Mode != AttentionFull && a.Mode != AttentionBlocks || !vectors(a.Q) || !vectors(a.K) || !vectors(a.V) {
		return nil
	}
	for _, f := range attentionByteFragmentTiles {
		if f.fits(caps, a.Mode) && 8*f.keys%f.invocations() == 0 {
			f.variant = fragmentShader(caps, shaders.AttentionFragmentsInt8, shaders.AttentionFragmentsInt8Emulated)
			out = append(out, attentionByteFragments{f})
		}
	}
	return out
}
