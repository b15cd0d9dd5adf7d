package engine

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Call is one dispatch of a shader.
type Call struct {
	Shader string              // a variant's name in package shaders
	Spec   []shaders.SpecValue // specialization constants
	Push   []byte              // push constants, at most 128 bytes
	Bind   []Tensor            // binding i is bound to exactly the view's range; the zero Tensor binds a dummy
	Groups [3]uint32
	Cost   float64 // estimated floating-point operations
	Label  string  // for timings
}

// Point is a value that a stream's timeline reaches.
type Point struct {
	Stream *Stream
	Value  uint64
}

// Stream records commands for one queue, places barriers between them, and submits them. Its timeline counts submits:
// value n is reached when the n-th is done. Errors are sticky: after one, recording does nothing and Err, Flush and
// Finish return it.
type Stream struct {
	Name   string
	device *Device
	queue  *queue
	line   *vk.Timeline
	pool   *vk.CommandPool

	current   *commands // being recorded, nil when nothing is
	running   []*commands
	idle      []*commands
	submitted atomic.Uint64 // value of the last submit
	recording atomic.Bool
	waits     []vk.Point // for the next submit
	hazards   hazards
	scratch   []access
	err       error
	timed     bool
	computes  bool // the queue can run shaders, so barriers name that stage
	spans     []Span
	counters  Counters
	note      func(Call) // not nil: it gets the calls and nothing is recorded, see Device.Compile

	omitBarrier, omitWait int
}

// Counters count what a stream did.
type Counters struct {
	Dispatches, Copies, Barriers, Submits int64
	CopiedBytes                           int64
	RecordTime                            time.Duration // host time spent in Dispatch, Copy, Fill and Flush
}

func newStream(d *Device, name string, q *queue, f vk.QueueFamily) (*Stream, error) {
	s := &Stream{Name: name, device: d, queue: q, timed: (d.opts.Timings || d.opts.Marks) && f.TimestampBits > 0, computes: f.Compute}
	var err error
	if s.line, err = d.vk.NewTimeline(name + " timeline"); err != nil {
		return s, err
	}
	s.pool, err = d.vk.NewCommandPool(q.vk.Family)
	return s, err
}

// Device returns the stream's device.
func (s *Stream) Device() *Device { return s.device }

// Err returns the first error.
func (s *Stream) Err() error { return s.err }

// Counters returns what the stream did so far.
func (s *Stream) Counters() Counters { return s.counters }

func (s *Stream) fail(err error) {
	if s.err == nil && err != nil {
		s.err = fmt.Errorf("%s queue: %w", s.Name, err)
	}
}

// Fail makes an error sticky, for code that records and meets a failure of its own.
func (s *Stream) Fail(err error) {
	if s.err == nil {
		s.err = err
	}
}

// Dispatch records a call. It panics when a binding is larger or less aligned than the device allows, or push
// constants exceed 128 bytes: kernels cut their work so that neither happens.
func (s *Stream) Dispatch(c Call) {
	if s.err != nil {
		return
	}
	if s.note != nil {
		s.note(c)
		return
	}
	start := time.Now()
	defer func() { s.counters.RecordTime += time.Since(start) }()
	p, err := s.device.pipelines.get(c, true)
	if err != nil {
		s.fail(err)
		return
	}
	bind := make([]vk.Range, len(c.Bind))
	s.scratch = s.scratch[:0]
	for k, t := range c.Bind {
		used := !t.IsZero()
		if !used {
			t = s.device.dummy
		}
		bind[k] = s.bindingRange(c, k, t)
		if used {
			r := bind[k]
			s.scratch = append(s.scratch, access{r.Buffer, r.Offset, r.Size, p.access[k] != shaders.Read, vk.StageCompute})
		}
	}
	s.checkGroups(c)
	cmd := s.begin(c.Cost)
	if cmd == nil {
		return
	}
	s.order(s.scratch)
	set, err := cmd.set(s, p)
	if err != nil {
		s.fail(err)
		return
	}
	end := func() {}
	if s.device.opts.Timings {
		end = s.span(c.Label)
	}
	s.current.buffer.Dispatch(p.vk, set, bind, c.Push, c.Groups)
	end()
	s.current.cost += c.Cost
	s.current.count++
	s.counters.Dispatches++
}

func (s *Stream) bindingRange(c Call, k int, t Tensor) vk.Range {
	size := (t.Bytes() + 3) &^ 3
	r := vk.Range{Buffer: t.Mem.Buffer, Offset: t.Mem.Offset + t.Offset, Size: size}
	caps := s.device.caps
	if size == 0 || size > caps.MaxStorageRange || r.Offset%caps.StorageAlign != 0 || t.Offset+size > t.Mem.Size {
		panic(fmt.Sprintf("engine: %s (%s) binding %d: %v of %d bytes at offset %d does not fit the device (at most %d bytes, aligned to %d, region of %d)",
			c.Shader, c.Label, k, t, size, r.Offset, caps.MaxStorageRange, caps.StorageAlign, t.Mem.Size))
	}
	return r
}

func (s *Stream) checkGroups(c Call) {
	for axis, g := range c.Groups {
		if g == 0 || g > s.device.caps.MaxGroups[axis] {
			panic(fmt.Sprintf("engine: %s (%s): %v workgroups, the device allows %v", c.Shader, c.Label, c.Groups, s.device.caps.MaxGroups))
		}
	}
	if len(c.Push) > 128 || len(c.Bind) > vk.MaxBindings {
		panic(fmt.Sprintf("engine: %s: %d bytes of push constants and %d bindings", c.Shader, len(c.Push), len(c.Bind)))
	}
}

// Copy records a copy between tensors of the same size in bytes.
func (s *Stream) Copy(dst, src Tensor) {
	if dst.Bytes() != src.Bytes() {
		panic(fmt.Sprintf("engine: copy of %v to %v", src, dst))
	}
	s.CopyRange(regionRange(dst), regionRange(src))
}

func regionRange(t Tensor) vk.Range {
	return vk.Range{Buffer: t.Mem.Buffer, Offset: t.Mem.Offset + t.Offset, Size: t.Bytes()}
}

// CopyRange records a copy between buffers.
func (s *Stream) CopyRange(dst, src vk.Range) {
	if s.err != nil {
		return
	}
	start := time.Now()
	defer func() { s.counters.RecordTime += time.Since(start) }()
	cmd := s.begin(0)
	if cmd == nil {
		return
	}
	s.order([]access{{src.Buffer, src.Offset, src.Size, false, vk.StageTransfer}, {dst.Buffer, dst.Offset, dst.Size, true, vk.StageTransfer}})
	cmd.buffer.Copy(dst.Buffer, dst.Offset, src.Buffer, src.Offset, src.Size)
	cmd.count++
	s.counters.Copies++
	s.counters.CopiedBytes += src.Size
}

// Fill records writing a 32-bit word over a tensor whose size is a multiple of 4 bytes.
func (s *Stream) Fill(dst Tensor, word uint32) {
	if s.err != nil {
		return
	}
	cmd := s.begin(0)
	if cmd == nil {
		return
	}
	r := regionRange(dst)
	r.Size = (r.Size + 3) &^ 3
	s.order([]access{{r.Buffer, r.Offset, r.Size, true, vk.StageTransfer}})
	cmd.buffer.Fill(r.Buffer, r.Offset, r.Size, word)
	cmd.count++
}

// hostRead makes what was copied so far visible to the host once the submit is done.
func (s *Stream) hostRead() {
	if cmd := s.begin(0); cmd != nil {
		cmd.buffer.Barrier(vk.StageTransfer, vk.AccessTransferWrite, vk.StageHost, vk.AccessHostRead)
		cmd.count++
	}
}

// order records a barrier when the coming command touches what an earlier one wrote, or writes what one read.
func (s *Stream) order(next []access) {
	if s.hazards.conflict(next) {
		s.counters.Barriers++
		if s.omitBarrier == 0 || s.counters.Barriers != int64(s.omitBarrier) {
			s.barrier()
		}
		s.hazards.clear()
	}
	s.hazards.add(next)
}

// barrier orders everything before it on this queue before everything after it.
func (s *Stream) barrier() {
	var src, dst, srcAccess, dstAccess uint32
	for _, p := range s.hazards.pending {
		src |= p.stage
	}
	if src&vk.StageCompute != 0 {
		srcAccess |= vk.AccessShaderWrite
	}
	if src&vk.StageTransfer != 0 {
		srcAccess |= vk.AccessTransferWrite
	}
	dst, dstAccess = vk.StageTransfer, vk.AccessTransferRead|vk.AccessTransferWrite
	if s.computes {
		dst |= vk.StageCompute
		dstAccess |= vk.AccessShaderRead | vk.AccessShaderWrite
	}
	s.current.buffer.Barrier(src, srcAccess, dst, dstAccess)
}

// Wait makes what is recorded from now on wait until another stream has reached a value. It costs no host wait; work
// recorded before is submitted first.
func (s *Stream) Wait(p Point) {
	if s.err != nil || s.note != nil || p.Stream == s {
		return
	}
	if s.current != nil && s.current.count > 0 {
		if _, err := s.Flush(); err != nil {
			return
		}
	}
	if s.omitWait > 0 {
		if s.omitWait--; s.omitWait == 0 {
			return
		}
	}
	for k := range s.waits {
		if s.waits[k].Timeline == p.Stream.line {
			s.waits[k].Value = max(s.waits[k].Value, p.Value)
			return
		}
	}
	s.waits = append(s.waits, vk.Point{Timeline: p.Stream.line, Value: p.Value})
}

// Here returns the point at which all that is recorded so far is done. The value is reached only after a Flush.
func (s *Stream) Here() Point { return Point{s, s.pendingValue()} }

// pendingValue is the value that the work recorded so far will signal.
func (s *Stream) pendingValue() uint64 {
	if s.recording.Load() {
		return s.submitted.Load() + 1
	}
	return s.submitted.Load()
}
