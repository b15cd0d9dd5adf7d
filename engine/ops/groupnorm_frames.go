package ops

import (
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine"
)

// GroupStatsArgs are the operands of GroupStats.
type GroupStatsArgs struct {
	Frames  []engine.Tensor // f32, bf16 or f16, of one shape [..., C] and anywhere in memory
	Groups  int             // divides C
	Eps     float32
	Moments engine.Tensor // f32, GroupStatsMoments(…) elements of scratch
	Stats   engine.Tensor // f32 [Groups, 4]: the result, for GroupApply
}

// GroupStatsMoments returns the elements of GroupStatsArgs.Moments for so many frames of so many places each.
func GroupStatsMoments(frames, places, groups int) int {
	return frames * ceilDiv(places, momentsChunk) * groups * 4
}

// GroupStats records the statistics of GroupNorm over all frames together. GroupApply uses them; so a video that is
// held frame by frame is normalised without being in one piece, and frames can be normalised when they are needed.
func GroupStats(s *engine.Stream, a GroupStatsArgs) {
	if s.Err() != nil {
		return
	}
	bad := func(why string) {
		panic(fmt.Sprintf("ops.GroupStats: %s: %d frames, first %v, %d groups, moments %v, stats %v", why, len(a.Frames), a.Frames[:min(1, len(a.Frames))], a.Groups, a.Moments, a.Stats))
	}
	if len(a.Frames) == 0 || !floats(a.Frames...) || a.Frames[0].Elems() == 0 || a.Groups < 1 || a.Frames[0].Dim(-1)%a.Groups != 0 {
		bad("want float frames that are not empty, and groups that divide the channels")
	}
	channels := a.Frames[0].Dim(-1)
	places := int(a.Frames[0].Elems() / int64(channels))
	chunks := ceilDiv(places, momentsChunk)
	if !vectorOf(a.Moments, GroupStatsMoments(len(a.Frames), places, a.Groups)) || a.Moments.IsZero() || a.Moments.DType != engine.F32 ||
		!vectorOf(a.Stats, 4*a.Groups) || a.Stats.IsZero() || a.Stats.DType != engine.F32 {
		bad("moments or stats are too small or not f32")
	}
	moment := a.Moments.Reshape(len(a.Frames)*chunks, a.Groups, 4)
	for k, frame := range a.Frames {
		if frame.Elems() != a.Frames[0].Elems() || frame.Dim(-1) != channels {
			bad(fmt.Sprintf("frame %d is %v", k, frame))
		}
		m := moments{frame, 1, places, a.Groups, channels / a.Groups}
		m.partial(s, "groupnorm", moment.Rows(k*chunks, (k+1)*chunks))
	}
	mergeMoments(s, "groupnorm", a.Stats.Reshape(1, a.Groups, 4), moment, len(a.Frames)*chunks, a.Eps)
}

// GroupApply records GroupNorm's second pass with the statistics that GroupStats left, over any part of what they
// were taken of.
func GroupApply(s *engine.Stream, a GroupNormArgs, stats engine.Tensor) {
	if s.Err() != nil {
		return
	}
	m := a.check()
	if !vectorOf(stats, 4*a.Groups) || stats.IsZero() || stats.DType != engine.F32 {
		panic(fmt.Sprintf("ops.GroupApply: stats %v are not f32 [%d, 4]", stats, a.Groups))
	}
	a.apply(s, m, stats)
}
