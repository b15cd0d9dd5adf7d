package vae

import (
	"context"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// eps is that of every GroupNorm of the network.
const eps = 1e-6

// net records layers, or only takes and puts back their memory where stream is nil (planning).
type net struct {
	stream *engine.Stream
	pool   *pool // of what lives within a tile; empty between tiles
	kept   *pool // of tiles' results and what is made of them
	params load.Params
	act    engine.DType // of activations
	groups int          // of every GroupNorm
	half   bool         // multiply in fp16
	// matrices tells that attention is computed in products of cooperative matrices.
	matrices bool
	fence    uint64

	maxBinding int64 // bytes

	// back is where results go to the host; hostBytes is the most that it must hold, found when planning. pending delivers
	// what was started and not yet taken, so that the device has work meanwhile.
	back      *engine.Fetch
	hostBytes int64
	pending   func(ctx context.Context) error
}

// settle delivers what is pending.
func (n *net) settle(ctx context.Context) error {
	if n.pending == nil {
		return nil
	}
	deliver := n.pending
	n.pending = nil
	return deliver(ctx)
}

// layer turns a clip into the next; the memory of its input is put back or reused.
type layer func(clip) clip

// run applies layers one after the other. After each it waits until the one before is done, so that a cancelled context
// stops the GPU soon, and the host does not run far ahead. Halfway, where the GPU has most to do, it delivers what is
// pending.
func (n *net) run(ctx context.Context, x clip, layers []layer) (clip, error) {
	for i, apply := range layers {
		if err := ctx.Err(); err != nil {
			return x, err
		}
		x = apply(x)
		if err := n.err(); err != nil {
			return x, err
		}
		if err := n.throttle(ctx); err != nil {
			return x, err
		}
		if i == len(layers)/2 {
			if err := n.settle(ctx); err != nil {
				return x, err
			}
		}
	}
	return x, nil
}

// throttle submits what is recorded and waits for what was submitted by the last call.
func (n *net) throttle(ctx context.Context) error {
	if n.stream == nil {
		return nil
	}
	value, err := n.stream.Flush()
	if err == nil {
		err = n.stream.WaitValue(ctx, n.fence)
	}
	n.fence = value
	return err
}

// planning tells whether memory is only counted.
func (n *net) planning() bool { return n.stream == nil || n.err() != nil }

// err is the first memory that could not be had.
func (n *net) err() error {
	if n.pool.err != nil {
		return n.pool.err
	}
	return n.kept.err
}

// kernel is one output frame of a convolution.
type kernel struct {
	name     string           // of the convolution in the checkpoint, without ".weight"
	taps     [3]engine.Tensor // source frames of its taps in time
	y        engine.Tensor
	residual engine.Tensor // added, optional
	stride   int           // of rows and columns, 1 where zero
	upsample int
}

func (n *net) convolve(k kernel) {
	if n.planning() {
		return
	}
	ops.Conv3DFrame(n.stream, ops.Conv3DFrameArgs{X: k.taps, W: n.params.Get(k.name + ".weight"), Bias: n.params.Get(k.name + ".bias"),
		Y: k.y, Residual: k.residual, Stride: [2]int{k.stride, k.stride}, Upsample: [2]int{k.upsample, k.upsample}, Half: n.half})
}

// outChannels is the number of output channels of a convolution.
func (n *net) outChannels(conv string) int { return n.params.Get(conv + ".bias").Dim(0) }

// causal returns the frames that the taps of a 3×3×3 convolution of output frame t read, when source tells where an input
// frame is held: this one and the two before, the first frame standing for those before the beginning.
func causal(t int, source func(t int) engine.Tensor) (taps [3]engine.Tensor) {
	for k := range taps {
		taps[k] = source(max(t-2+k, 0))
	}
	return taps
}

// conv is a causal convolution of the clip as it is.
func (n *net) conv(name string) layer {
	return func(x clip) clip { return n.convolved(x, name, n.pool, n.act) }
}

// exact is conv with an fp32 result in a pool, for the few channels at the network's ends.
func (n *net) exact(name string, to *pool) layer {
	return func(x clip) clip { return n.convolved(x, name, to, engine.F32) }
}

// convolved convolves a clip; 1×1×1 kernels have one tap and no past.
func (n *net) convolved(x clip, name string, to *pool, dt engine.DType) clip {
	y := empty(len(x.frames), x.h, x.w)
	long := n.params.Get(name+".weight").Dim(1) == 3
	for t := range y.frames {
		y.frames[t] = to.take(dt, x.h, x.w, n.outChannels(name))
		k := kernel{name: name, y: y.frames[t].Tensor, taps: [3]engine.Tensor{x.frames[t].Tensor}}
		if long {
			k.taps = causal(t, func(t int) engine.Tensor { return x.frames[t].Tensor })
		}
		n.convolve(k)
		switch { // what no later frame reads
		case !long:
			n.pool.put(x.frames[t])
		case t >= 2:
			n.pool.put(x.frames[t-2])
		}
	}
	if long {
		n.pool.put(x.frames[max(0, len(x.frames)-2):]...)
	}
	return y
}

// downsample is a causal convolution of stride 2 in space and step in time: T frames become (T − 1)/step + 1.
func (n *net) downsample(name string, step int) layer {
	return func(x clip) clip {
		y := empty((len(x.frames)-1)/step+1, (x.h+1)/2, (x.w+1)/2)
		freed := 0
		for t := range y.frames {
			y.frames[t] = n.pool.take(n.act, y.h, y.w, n.outChannels(name))
			n.convolve(kernel{name: name, y: y.frames[t].Tensor, stride: 2,
				taps: causal(t*step, func(t int) engine.Tensor { return x.frames[t].Tensor })})
			for ; freed < (t+1)*step-2; freed++ {
				n.pool.put(x.frames[freed])
			}
		}
		n.pool.put(x.frames[freed:]...)
		return y
	}
}

// upsample doubles rows and columns and, where factor is 2, all frames but the first, then convolves. The upsampled clip
// never exists.
func (n *net) upsample(name string, factor int) layer {
	return func(x clip) clip {
		source := func(t int) int { return (t + factor - 1) / factor } // the first frame is not repeated
		y := empty((len(x.frames)-1)*factor+1, 2*x.h, 2*x.w)
		freed := 0
		for t := range y.frames {
			y.frames[t] = n.pool.take(n.act, y.h, y.w, n.outChannels(name))
			n.convolve(kernel{name: name, y: y.frames[t].Tensor, upsample: 2,
				taps: causal(t, func(t int) engine.Tensor { return x.frames[source(t)].Tensor })})
			for ; freed < source(max(t-1, 0)); freed++ {
				n.pool.put(x.frames[freed])
			}
		}
		n.pool.put(x.frames[freed:]...)
		return y
	}
}

// stats returns the statistics of a clip for normalise.
func (n *net) stats(x clip) buffer {
	stats := n.pool.take(engine.F32, n.groups, 4)
	moments := n.pool.take(engine.F32, ops.GroupStatsMoments(len(x.frames), x.h*x.w, n.groups))
	if !n.planning() {
		ops.GroupStats(n.stream, ops.GroupStatsArgs{Frames: x.tensors(), Groups: n.groups, Eps: eps, Moments: moments.Tensor, Stats: stats.Tensor})
	}
	n.pool.put(moments)
	return stats
}

// normalise writes x, normalised by statistics of the clip that it belongs to, to y.
func (n *net) normalise(name string, y, x, stats engine.Tensor, silu bool) {
	if n.planning() {
		return
	}
	ops.GroupApply(n.stream, ops.GroupNormArgs{X: x, Y: y, Weight: n.params.Get(name + ".weight"), Bias: n.params.Get(name + ".bias"),
		Groups: n.groups, Eps: eps, SiLU: silu}, stats)
}

// normConv is GroupNorm, SiLU and a causal 3×3×3 convolution. For each frame in turn, once it has been normalised, target
// says where the result goes and what is added to it. At most three normalised frames exist, in a type of their own.
func (n *net) normConv(x clip, norm, conv string, dt engine.DType, target func(t int) (y, residual engine.Tensor)) {
	stats := n.stats(x)
	var window [3]buffer
	held := min(len(window), len(x.frames))
	for k := range held {
		window[k] = n.pool.take(dt, x.h, x.w, x.channels())
	}
	for t := range x.frames {
		n.normalise(norm, window[t%3].Tensor, x.frames[t].Tensor, stats.Tensor, true)
		y, residual := target(t)
		n.convolve(kernel{name: conv, y: y, residual: residual,
			taps: causal(t, func(t int) engine.Tensor { return window[t%3].Tensor })})
	}
	n.pool.put(window[:held]...)
	n.pool.put(stats)
}

// resnet is a residual block: x + conv2(silu(norm2(conv1(silu(norm1(x)))))), where x passes a 1×1×1 convolution when the
// number of channels changes. The result takes x's memory.
func (n *net) resnet(name string) layer {
	return func(x clip) clip {
		shortcut := name + "conv_shortcut.conv"
		_, changes := n.params.Maybe(shortcut + ".weight")
		sum := x
		if changes {
			sum = empty(len(x.frames), x.h, x.w)
		}
		hidden := empty(len(x.frames), x.h, x.w)
		channels := n.outChannels(name + "conv1.conv")
		n.normConv(x, name+"norm1", name+"conv1.conv", n.act, func(t int) (y, residual engine.Tensor) {
			if changes {
				sum.frames[t] = n.pool.take(n.act, x.h, x.w, channels)
				n.convolve(kernel{name: shortcut, y: sum.frames[t].Tensor, taps: [3]engine.Tensor{x.frames[t].Tensor}})
				n.pool.put(x.frames[t])
			}
			hidden.frames[t] = n.pool.take(n.act, x.h, x.w, channels)
			return hidden.frames[t].Tensor, engine.Tensor{}
		})
		n.normConv(hidden, name+"norm2", name+"conv2.conv", n.act, func(t int) (y, residual engine.Tensor) {
			n.pool.put(hidden.frames[t])
			return sum.frames[t].Tensor, sum.frames[t].Tensor
		})
		return sum
	}
}

// finish is GroupNorm, SiLU and a last convolution. Its operand is fp32: an overflow there would stay in its place, where
// overflows before are spread by the next GroupNorm. The result lies in a pool.
func (n *net) finish(norm, conv string, to *pool) layer {
	return func(x clip) clip {
		y := empty(len(x.frames), x.h, x.w)
		n.normConv(x, norm, conv, engine.F32, func(t int) (out, residual engine.Tensor) {
			n.pool.put(x.frames[t])
			y.frames[t] = to.take(engine.F32, x.h, x.w, n.outChannels(conv))
			return y.frames[t].Tensor, engine.Tensor{}
		})
		return y
	}
}
