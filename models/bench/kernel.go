package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/ops"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// KernelOptions say how kernels are measured.
type KernelOptions struct {
	Precision load.Precision
	Linear    load.Linear   // of linear layers: in int8 without the rounding of their operands
	Least     time.Duration // a measurement takes at least so long
	// Progress, if set, is told after each kernel.
	Progress func(done, total int)
}

// KernelReport is what was measured of one kind of kernel.
type KernelReport struct {
	Device    string      `json:"device"`
	Driver    string      `json:"driver"`
	Kernels   string      `json:"kernels"`
	Precision string      `json:"precision"`
	Linear    string      `json:"linear"`
	Ceilings  []Ceiling   `json:"ceilings"`
	Runs      []KernelRun `json:"runs"`
}

// KernelRun is one shape.
type KernelRun struct {
	Name       string        `json:"name"`
	Shape      string        `json:"shape"`
	Time       time.Duration `json:"ns"`
	Operations float64       `json:"operations"` // a multiply-add counts as two
	TFLOPS     float64       `json:"tflops"`
	Unit       string        `json:"ceiling_of"`
	Share      float64       `json:"share_of_ceiling"`
}

// kernelCase is a shape with what makes its operands and records it.
type kernelCase struct {
	name, shape string
	operations  float64
	prepare     func(a *engine.Arena) (work func(s *engine.Stream), fill []engine.Tensor)
	upload      func(ctx context.Context, d *engine.Device) error // optional: what is not random numbers
}

// runKernels measures the ceilings, then every case.
func runKernels(ctx context.Context, d *engine.Device, o KernelOptions, cases []kernelCase) (*KernelReport, error) {
	info := d.Summary.Physical.Info
	r := &KernelReport{Device: info.Name, Driver: info.Driver + " " + info.DriverInfo, Kernels: d.Caps().Tier.String(), Precision: o.Precision.String(), Linear: o.Linear.String()}
	var err error
	if r.Ceilings, err = Ceilings(ctx, d, o.Least); err != nil {
		return nil, err
	}
	ceiling := ceilingFor(r.Ceilings, o.Precision, o.Linear)
	for k, c := range cases {
		run, err := runKernel(ctx, d, o, c)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", c.name, c.shape, err)
		}
		run.Unit, run.Share = ceiling.Unit, c.operations/run.Time.Seconds()/ceiling.PerSecond
		r.Runs = append(r.Runs, run)
		if o.Progress != nil {
			o.Progress(k+1, len(cases))
		}
	}
	return r, nil
}

func runKernel(ctx context.Context, d *engine.Device, o KernelOptions, c kernelCase) (KernelRun, error) {
	a := d.NewArena("benchmark")
	defer a.Release()
	work, fill := c.prepare(a)
	if err := a.Err(); err != nil {
		return KernelRun{}, err
	}
	for k, t := range fill {
		if err := fillRandom(ctx, d, t, uint64(k)); err != nil {
			return KernelRun{}, err
		}
	}
	if c.upload != nil {
		if err := c.upload(ctx, d); err != nil {
			return KernelRun{}, err
		}
	}
	took, err := timer{d, o.Least}.time(ctx, work)
	if err != nil {
		return KernelRun{}, err
	}
	return KernelRun{Name: c.name, Shape: c.shape, Time: took, Operations: c.operations, TFLOPS: c.operations / took.Seconds() / 1e12}, nil
}

// randomElems is how many numbers are drawn; the rest of a tensor repeats them, at a length that no row has.
const randomElems = 1<<20 + 7

// fillRandom fills a tensor with normal numbers: matrix units take more power, and so run slower, on random operands than on
// zeros.
func fillRandom(ctx context.Context, d *engine.Device, t engine.Tensor, seed uint64) error {
	n := int(min(t.Elems(), randomElems))
	flat := t.Reshape(int(t.Elems()))
	values := normal(rand.New(rand.NewPCG(seed, 5)), n)
	upload := func() error { return d.UploadF32(ctx, flat.View(0, n), values) }
	if t.DType == engine.I8 {
		upload = func() error { return d.Upload(ctx, flat.View(0, n), signedBytes(values)) }
	}
	if err := upload(); err != nil {
		return err
	}
	s := d.Compute()
	for at := int64(n); at < t.Elems(); { // doubling what is there
		part := min(at, t.Elems()-at)
		s.Copy(flat.View(at, int(part)), flat.View(0, int(part)))
		at += part
	}
	return s.Finish(ctx)
}

// signedBytes rounds normal numbers as rows of some thousand are: the largest becomes 127.
func signedBytes(values []float32) []byte {
	out := make([]byte, len(values))
	for i, v := range values {
		out[i] = byte(int8(max(-127, min(127, 36*v))))
	}
	return out
}

// MatmulShape is x [M, K] times wᵀ [K, N].
type MatmulShape struct {
	Name    string
	M, N, K int
	GELU    bool // the activation of the feed-forward network
	Add     bool // into the residual stream, fp32
	Heads   int  // > 0: head-major output of so many heads
}

// Matmuls measures linear layers in the transformer's types: operands of the precision, sums in fp32.
func Matmuls(ctx context.Context, d *engine.Device, o KernelOptions, shapes []MatmulShape) (*KernelReport, error) {
	act := o.Precision.Activation()
	half := o.Precision == load.Mixed && d.Caps().Tier >= engine.TierFP16
	var cases []kernelCase
	for _, z := range shapes {
		if o.Linear == load.LinearInt8 && !ops.CanQuantize(z.K) {
			return nil, fmt.Errorf("%s: layers in int8 have inputs of a multiple of 64 channels, at most 65536, not %d", z.Name, z.K)
		}
		name, x, w := z.Name, z.M, z.N
		packed := half && o.Linear != load.LinearInt8 && d.Caps().Fragments != engine.NoFragments && z.K%128 == 0
		if packed {
			name, x, w = name+", packed", ops.PackedRows(x), ops.PackedRows(w)
		}
		cases = append(cases, kernelCase{
			name: name, shape: fmt.Sprintf("%d×%d×%d", z.M, z.N, z.K), operations: 2 * float64(z.M) * float64(z.N) * float64(z.K),
			prepare: func(a *engine.Arena) (func(*engine.Stream), []engine.Tensor) {
				args := ops.MatmulArgs{Half: half, Bias: a.Alloc("bias", engine.F32, z.N)}
				fill := []engine.Tensor{args.Bias}
				if o.Linear == load.LinearInt8 {
					args.XScale, args.WScale = a.Alloc("scales of x", engine.F32, z.M), a.Alloc("scales of w", engine.F32, z.N)
					args.X, args.W = a.Alloc("x", engine.I8, z.M, z.K), a.Alloc("w", engine.I8, z.N, z.K)
					fill = append(fill, args.XScale, args.WScale)
				} else {
					args.X, args.W = a.Alloc("x", act, x, z.K), a.Alloc("w", act, w, z.K)
				}
				fill = append(fill, args.X, args.W)
				args.X, args.W, args.Packed = args.X.Rows(0, z.M), args.W.Rows(0, z.N), packed
				switch {
				case z.Add:
					args.Y, args.Gate, args.Add = a.Alloc("y", engine.F32, z.M, z.N), a.Alloc("gate", engine.F32, z.N), true
					fill = append(fill, args.Y, args.Gate)
				case z.Heads > 0:
					args.Y, args.HeadDim = a.Alloc("y", act, z.Heads, z.M, z.N/z.Heads), z.N/z.Heads
				default:
					args.Y = a.Alloc("y", act, x, z.N).Rows(0, z.M)
				}
				if z.GELU {
					args.Activation = ops.GELU
					args.PackY = packed && z.N%128 == 0 && !z.Add && z.Heads == 0 // as in the feed-forward network
				}
				return func(s *engine.Stream) { ops.Matmul(s, args) }, fill
			},
		})
	}
	return runKernels(ctx, d, o, cases)
}

// ConvShape is a causal convolution with a kernel of 3×3×3 over [Frames, Height, Width, In].
type ConvShape struct {
	Name                           string
	Frames, Height, Width, In, Out int
}

// Convs measures the autoencoder's convolutions, in fp16 as there, or in fp32.
func Convs(ctx context.Context, d *engine.Device, o KernelOptions, shapes []ConvShape) (*KernelReport, error) {
	act := engine.F16
	if o.Precision == load.Float32 {
		act = engine.F32
	}
	half := o.Precision == load.Mixed && d.Caps().Tier >= engine.TierFP16
	var cases []kernelCase
	for _, z := range shapes {
		cases = append(cases, kernelCase{
			name: z.Name, shape: fmt.Sprintf("%d×%d×%d×%d×%d", z.Frames, z.Height, z.Width, z.In, z.Out),
			operations: 2 * 27 * float64(z.Frames) * float64(z.Height) * float64(z.Width) * float64(z.In) * float64(z.Out),
			prepare: func(a *engine.Arena) (func(*engine.Stream), []engine.Tensor) {
				args := ops.Conv3DArgs{Half: half, X: a.Alloc("x", act, z.Frames, z.Height, z.Width, z.In), W: a.Alloc("w", act, z.Out, 3, 3, 3, z.In),
					Bias: a.Alloc("bias", engine.F32, z.Out), Y: a.Alloc("y", act, z.Frames, z.Height, z.Width, z.Out)}
				return func(s *engine.Stream) { ops.Conv3D(s, args) }, []engine.Tensor{args.X, args.W, args.Bias}
			},
		})
	}
	return runKernels(ctx, d, o, cases)
}
