package convert

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/quant"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// pieceElements are coded at a time by one goroutine; a multiple of every run that shares a scale.
const pieceElements = 1 << 20

// job is one conversion at work.
type job struct {
	plan     plan
	ckpt     *weights.Checkpoint
	writer   *weights.Writer
	progress func(done, total int64)
	lost     map[string]*deviation // by the source's name
	scales   map[string]float32    // of fp8 matrices, likewise
	written  int64
	from     int     // the tensor to begin with
	keeper   *keeper // nil unless the conversion can be resumed
}

// piece is a run of elements of an output that is coded, or will be.
type piece struct {
	out  output
	at   int
	last bool // of its output
	done chan struct{}

	data []byte
	lost deviation
	err  error
}

// run codes pieces on all processors and writes them in order. A piece waits for the writer when too many are ahead of it.
func (j *job) run(ctx context.Context) error {
	j.scales = map[string]float32{}
	group, ctx := errgroup.WithContext(ctx)
	queue := make(chan *piece, runtime.GOMAXPROCS(0))
	group.Go(func() error {
		defer close(queue)
		return j.code(ctx, group, queue)
	})
	group.Go(func() error {
		for p := range queue {
			if err := j.write(ctx, p); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// code starts a goroutine for each piece, in the order of the file.
func (j *job) code(ctx context.Context, group *errgroup.Group, queue chan<- *piece) error {
	byName := map[string]output{}
	for _, o := range j.plan.outputs {
		byName[o.info.Name] = o
	}
	for _, info := range j.writer.Order()[j.from:] {
		o := byName[info.Name]
		scale, err := j.matrixScale(ctx, o)
		if err != nil {
			return err
		}
		elements := o.source.Elements()
		if o.scales() && o.stored == weights.F8E4M3 {
			elements = 1
		}
		for at := 0; at < elements; at += pieceElements {
			p := &piece{out: o, at: at, last: at+pieceElements >= elements, done: make(chan struct{})}
			select {
			case queue <- p: // full while pieces wait to be written
			case <-ctx.Done():
				return ctx.Err()
			}
			group.Go(func() error {
				defer close(p.done)
				p.code(min(pieceElements, elements-at), scale)
				return p.err
			})
		}
	}
	return nil
}

// write waits for a piece and writes it.
func (j *job) write(ctx context.Context, p *piece) error {
	select {
	case <-p.done:
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.err != nil {
		return p.err
	}
	if _, err := j.writer.Write(p.data); err != nil {
		return err
	}
	if !p.out.scales() {
		name := p.out.source.Name
		if j.lost[name] == nil {
			j.lost[name] = &deviation{}
		}
		j.lost[name].add(p.lost)
	}
	j.ckpt.Forget(p.out.source, p.at, min(p.at+pieceElements, p.out.source.Elements()))
	if p.last && j.keeper != nil {
		if err := j.keeper.whole(j.writer); err != nil {
			return err
		}
	}
	j.written += int64(len(p.data))
	if j.progress != nil {
		j.progress(j.written, j.writer.DataBytes())
	}
	return nil
}

// matrixScale is the one scale of an fp8 matrix, zero for other outputs.
func (j *job) matrixScale(ctx context.Context, o output) (float32, error) {
	if o.stored != weights.F8E4M3 {
		return 0, nil
	}
	if scale, ok := j.scales[o.source.Name]; ok {
		return scale, nil
	}
	amax, err := j.largest(ctx, o.source)
	if err != nil {
		return 0, err
	}
	scale := amax / quant.MaxE4M3
	if scale == 0 {
		scale = 1
	}
	j.scales[o.source.Name] = scale
	return scale, nil
}

// largest reads a whole tensor for its largest magnitude.
func (j *job) largest(ctx context.Context, t weights.Tensor) (float32, error) {
	elements := t.Elements()
	found := make([]float32, (elements+pieceElements-1)/pieceElements)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for k := range found {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			values := make([]float32, min(pieceElements, elements-k*pieceElements))
			err := t.Values(values, k*pieceElements)
			found[k] = quant.Amax(values)
			j.ckpt.Forget(t, k*pieceElements, k*pieceElements+len(values))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return quant.Amax(found), nil
}

// code makes the bytes of n elements and measures what they lose.
func (p *piece) code(n int, scale float32) {
	values := make([]float32, n)
	if p.err = p.out.source.Values(values, p.at); p.err != nil {
		return
	}
	coded := p.encode(values, scale)
	if p.out.scales() {
		p.data = coded.Scales.Data
		return
	}
	p.data = coded.Data
	again := make([]float32, n)
	if err := coded.Values(again, 0); err != nil {
		p.err = inputError("%s: tensor %q has values that type %s cannot hold: take another type", p.out.source.File, p.out.source.Name, p.out.stored)
		return
	}
	p.lost.compare(values, again)
}

// encode codes values as a tensor that the program's own reader decodes.
func (p *piece) encode(values []float32, scale float32) weights.Tensor {
	d := p.out.stored
	t := weights.Tensor{Name: p.out.source.Name, DType: d, Shape: []int{len(values)}, Data: make([]byte, d.Bytes(len(values)))}
	switch d {
	case weights.F32:
		numeric.BytesFromF32s(t.Data, values)
	case weights.F16:
		numeric.F16FromF32s(t.Data, values)
	case weights.BF16:
		numeric.BF16FromF32s(t.Data, values)
	case weights.F8E4M3:
		quant.EncodeE4M3(t.Data, values, scale)
		t.Scales = weights.Scales{DType: weights.F32, Run: len(values), Data: scaleBytes(scale)}
	case weights.I8:
		t.Scales = weights.Scales{DType: weights.F32, Run: scaleRun}
		for at := 0; at < len(values); at += scaleRun {
			run := values[at : at+scaleRun]
			s := quant.Amax(run) / 127
			quant.EncodeInt8(t.Data[at:at+scaleRun], run, s)
			t.Scales.Data = append(t.Scales.Data, scaleBytes(s)...)
		}
	default:
		if d.Block() == 0 {
			panic(fmt.Sprintf("convert: type %s in a plan", d))
		}
		d.Block().Encode(t.Data, values)
	}
	return t
}

func scaleBytes(f float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(f)) }
