package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// momentsChunk is the number of rows whose moments one workgroup of moments.comp computes. It is fixed, so that results
// do not depend on the device or on how the work is cut.
const momentsChunk = 256

// moments describes the statistics of x, seen as segments of segmentRows rows of groups·groupDim channels.
type moments struct {
	x                     engine.Tensor
	segments, segmentRows int
	groups, groupDim      int
}

// chunks is the number of chunks of one segment.
func (m moments) chunks() int { return ceilDiv(m.segmentRows, momentsChunk) }

// scratch is the shape of the tensor that partial writes: (count, mean, sum of squared differences, 0) per chunk, group.
func (m moments) scratch() []int { return []int{m.segments * m.chunks(), m.groups, 4} }

// partial records the moments of every chunk and group into out, f32 of the scratch shape.
func (m moments) partial(s *engine.Stream, op string, out engine.Tensor) {
	caps := s.Device().Caps()
	channels := int64(m.groups) * int64(m.groupDim)
	vec := m.groupDim%4 == 0 && quadAligned(m.x)
	side := 1 // groups next to each other in a workgroup
	for side < min(m.groups, 32) {
		side *= 2
	}
	spec := shaders.MomentsSpec{XType: uint32(m.x.DType), Lanes: uint32(128 / side), Chunk: momentsChunk, Vec: vec}.Values()
	total := m.segments * m.chunks()
	cost := 8 * momentsChunk * float64(channels)
	piece := pieceSize(caps, op, total, cost, momentsChunk*channels*m.x.DType.Size(), int64(m.groups)*16)
	for at := 0; at < total; at += piece {
		count := min(piece, total-at)
		from, to := m.firstRow(at), m.firstRow(at+count)
		push := shaders.MomentsPush{Chunks: uint32(count), FirstChunk: uint32(at), SegmentRows: uint32(m.segmentRows),
			SegmentChunks: uint32(m.chunks()), Groups: uint32(m.groups), GroupDim: uint32(m.groupDim)}
		bind := make([]engine.Tensor, 2)
		bind[0], push.XBase = alignedView(caps, m.x, from*channels, (to-from)*channels)
		bind[1], push.MomentsBase = alignedView(caps, out, int64(at)*int64(m.groups)*4, int64(count)*int64(m.groups)*4)
		s.Dispatch(engine.Call{
			Shader: shaders.Moments, Spec: spec, Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, int64(count)*int64(ceilDiv(m.groups, side))),
			Cost:   cost * float64(count), Label: fmt.Sprintf("%s moments %dx%d", op, to-from, channels),
		})
	}
}

// firstRow is the row at which a chunk begins; the chunk after the last begins at the end.
func (m moments) firstRow(chunk int) int64 {
	segment := chunk / m.chunks()
	return int64(segment)*int64(m.segmentRows) + int64(chunk%m.chunks())*momentsChunk
}

// mergeMoments records, for every segment of segmentChunks chunks and every group, count, mean, sum of squared
// differences and 1/sqrt(biased variance + eps) into stats, f32 [segments, groups, 4].
func mergeMoments(s *engine.Stream, op string, stats, partial engine.Tensor, segmentChunks int, eps float32) {
	caps := s.Device().Caps()
	segments, groups := stats.Dim(0), stats.Dim(1)
	perSegment := int64(segmentChunks) * int64(groups) * 4
	cost := 4 * float64(perSegment)
	piece := pieceSize(caps, op, segments, cost, perSegment*4)
	for at := 0; at < segments; at += piece {
		count := int64(min(piece, segments-at))
		push := shaders.MomentsMergePush{Segments: uint32(count), SegmentChunks: uint32(segmentChunks), Groups: uint32(groups), Eps: eps}
		bind := make([]engine.Tensor, 2)
		bind[0], push.MomentsBase = alignedView(caps, partial, int64(at)*perSegment, count*perSegment)
		bind[1], push.StatsBase = alignedView(caps, stats, int64(at)*int64(groups)*4, count*int64(groups)*4)
		s.Dispatch(engine.Call{
			Shader: shaders.MomentsMerge, Push: push.Append(nil), Bind: bind,
			Groups: folded(caps, count*int64(groups)),
			Cost:   cost * float64(count), Label: fmt.Sprintf("%s merge %dx%d", op, segmentChunks, groups),
		})
	}
}
