package kandinsky5

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Hashes are the SHA-256 of what the steps of a run gave, for the receipt of a clip that another process finishes.
type Hashes struct {
	Noise   string   `json:"noise"`
	Latents []string `json:"latents"` // after each step so far; "" where it is not known
	last    *hashing // of one more step, which is under way; nil when it is among the others
}

// hashing is the hash of a step's latents, which another goroutine works out.
type hashing struct {
	step int
	done chan struct{}
	sum  string
}

func (h *hashing) wait() string {
	<-h.done
	return h.sum
}

// complete waits for the hash that is under way; nil stays nil.
func (h *Hashes) complete() *Hashes {
	if h == nil || h.last == nil {
		return h
	}
	return &Hashes{Noise: h.Noise, Latents: append(slices.Clone(h.Latents), h.last.wait())}
}

// check refuses what is no hash, or of more steps than were made.
func (h *Hashes) check(steps int) error {
	if h == nil {
		return nil
	}
	if len(h.Latents) > steps {
		return fmt.Errorf("it has the hashes of %d steps and stands at step %d", len(h.Latents), steps)
	}
	for _, s := range append([]string{h.Noise}, h.Latents...) {
		if sum, err := hex.DecodeString(s); err != nil || len(sum) != sha256.Size && s != "" {
			return fmt.Errorf("%.80q is no SHA-256", s)
		}
	}
	return nil
}

// digester hashes what the stages of a run give. Every method of a nil digester does nothing.
//
// The latents change in every step. Their copy to the host is recorded behind the step's own work, so that the wait at the
// end of the step covers it and no submit is added. They are hashed on another goroutine while the GPU is at the next
// step; that step's copy is recorded at its end, and waits for the hash of the one before.
type digester struct {
	device *engine.Device
	log    *slog.Logger
	out    receipt.Digests
	host   *engine.Readback // nil where the host has no memory for it
	busy   *hashing         // of the latents that are being hashed; nil when none are
	frames *frameDigest
}

// text hashes the prompts' embeddings. They are some MiB, once.
func (g *digester) text(ctx context.Context, prompts []dit.Prompt) error {
	if g == nil {
		return nil
	}
	g.out.Text = nil
	for _, p := range prompts {
		rows, err := g.device.Download(ctx, p.Text)
		if err != nil {
			return err
		}
		g.out.Text = append(g.out.Text, receipt.Text{Rows: receipt.Sum(rows), Pooled: receipt.SumF32(p.Pooled)})
	}
	return nil
}

// firstFrame hashes the encoded picture.
func (g *digester) firstFrame(ctx context.Context, first engine.Tensor) error {
	if g == nil {
		return nil
	}
	data, err := g.device.Download(ctx, first)
	if err != nil {
		return err
	}
	g.out.FirstFrame = receipt.Sum(data)
	return nil
}

// start hashes the noise, if the run begins with it, or goes on from the hashes of a state, and takes the memory that latents come back to. A host that has none
// for it can do the run all the same, and the steps' digests are left out.
func (g *digester) start(latents engine.Tensor, noise []float32, steps int, before *Hashes) error {
	if g == nil {
		return nil
	}
	g.close() // of a stage that is begun anew
	if noise != nil {
		g.out.Noise = receipt.SumF32(noise)
	}
	host, err := g.device.NewReadback("latents to hash", latents.Bytes())
	switch {
	case err == nil:
		g.host = host
		if g.out.Latents != nil {
			break // those of steps that were made before a failure stay
		}
		g.out.Latents = make([]string, steps)
		if h := before.complete(); h != nil {
			g.out.Noise = h.Noise
			copy(g.out.Latents, h.Latents)
		}
	case errors.Is(err, memory.ErrBudget), errors.Is(err, vk.ErrOutOfHostMemory):
		g.log.Warn("latents are not hashed: pinned host memory does not hold them", "needed", memory.Size(latents.Bytes()))
	default:
		return err
	}
	return nil
}

// record lets the latents be copied behind the step that has just been recorded.
func (g *digester) record(latents engine.Tensor) {
	if g == nil || g.host == nil {
		return
	}
	g.take()
	g.host.Record(g.device.Compute(), latents)
}

// step begins to hash the latents of step i, from 0, which is over. Those of steps that are not made stay unknown.
func (g *digester) step(i int) {
	if g == nil || g.host == nil {
		return
	}
	h := &hashing{step: i, done: make(chan struct{})}
	go func(data []byte) {
		defer close(h.done)
		h.sum = receipt.Sum(data)
	}(g.host.Bytes())
	g.busy = h
}

// sofar are the hashes up to step i, from 0, which is being hashed; nil where there are none.
func (g *digester) sofar(i int) *Hashes {
	if g == nil || g.host == nil {
		return nil
	}
	return &Hashes{Noise: g.out.Noise, Latents: slices.Clone(g.out.Latents[:i]), last: g.busy}
}

// take waits for the latents that are being hashed.
func (g *digester) take() {
	if g.busy != nil {
		g.out.Latents[g.busy.step] = g.busy.wait()
		g.busy = nil
	}
}

// final hashes the latents that are decoded, and gives the memory back.
func (g *digester) final(ctx context.Context, latents engine.Tensor) error {
	if g == nil || g.host == nil {
		return nil
	}
	g.record(latents)
	if err := g.device.Compute().Finish(ctx); err != nil {
		return err
	}
	g.out.Final = receipt.Sum(g.host.Bytes())
	g.close()
	return nil
}

// close ends the hashing and gives the memory back; a second call does nothing.
func (g *digester) close() {
	if g == nil {
		return
	}
	g.take()
	g.host.Free()
	g.host = nil
	g.frames.sum()
}

// decoding forgets the frames of a stage that is begun anew.
func (g *digester) decoding() {
	if g != nil {
		g.frames.sum()
		g.frames = nil
	}
}

// decoded takes the frames that have been decoded, which follow those before. They are hashed beside the decoding of the
// next ones: a clip may have hundreds of MiB.
func (g *digester) decoded(pix []uint8) {
	if g == nil {
		return
	}
	if g.frames == nil {
		g.frames = newFrameDigest()
	}
	g.frames.pieces <- pix
}

// digests waits for what is being hashed and returns all digests.
func (g *digester) digests() *receipt.Digests {
	if g == nil {
		return nil
	}
	g.out.Frames = g.frames.sum()
	return &g.out
}

// frameDigest hashes pieces of a clip on a goroutine of its own.
type frameDigest struct {
	pieces chan []uint8
	done   chan string // has one digest once pieces is closed
	result string
	over   bool
}

func newFrameDigest() *frameDigest {
	f := &frameDigest{pieces: make(chan []uint8, 4), done: make(chan string, 1)}
	go func() {
		h := sha256.New()
		for p := range f.pieces {
			h.Write(p)
		}
		f.done <- hex.EncodeToString(h.Sum(nil))
	}()
	return f
}

// sum ends the goroutine and returns the digest; nil has none.
func (f *frameDigest) sum() string {
	if f == nil {
		return ""
	}
	if !f.over {
		close(f.pieces)
		f.result, f.over = <-f.done, true
	}
	return f.result
}

// fingerprints are those of a checkpoint's files, taken beside other work. Methods of nil do nothing.
type fingerprints struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when list and err are there
	list   []receipt.Weights
	err    error
}

// stop ends the work and waits until it no longer reads the files.
func (f *fingerprints) stop() {
	if f != nil {
		f.cancel()
		<-f.done
	}
}

// PrepareFingerprints begins to take the weights' fingerprints on another goroutine, beside the first stages of a run. A
// second call does nothing.
func (p *Pipeline) PrepareFingerprints() {
	if p.prints != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &fingerprints{cancel: cancel, done: make(chan struct{})}
	p.prints = f
	nets, layout := p.nets, p.ckpt.Layout
	var adapters []*weights.File
	if p.adapters != nil {
		adapters = p.adapters.Files()
	}
	go func() {
		defer close(f.done)
		if f.list, f.err = nets.fingerprint(ctx, layout); f.err != nil {
			return
		}
		var list []receipt.Weights
		list, f.err = receipt.Fingerprint(ctx, "lora", adapters, "")
		f.list = append(f.list, list...)
	}()
}

// Fingerprints returns the fingerprints of all files of weights (see receipt.Fingerprint), waiting for those that are not
// taken yet. They are taken once for a pipeline.
func (p *Pipeline) Fingerprints(ctx context.Context) ([]receipt.Weights, error) {
	p.PrepareFingerprints()
	select {
	case <-p.prints.done:
		return p.prints.list, p.prints.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fingerprint goes through the networks, the text encoders last: they are being loaded at this time.
func (n networks) fingerprint(ctx context.Context, l weights.Layout) ([]receipt.Weights, error) {
	var out []receipt.Weights
	for _, part := range []struct {
		name   string
		files  *weights.Checkpoint
		config string
	}{{"transformer", n.dit, l.DiT.Config}, {"vae", n.vae, l.VAE.Config}, {"clip", n.clip, l.CLIP.Config}, {"qwen", n.qwen, l.Qwen.Config}} {
		if part.files == nil {
			continue // made up
		}
		if l.Files() != nil {
			part.config = "" // no file of the system; the program's version stands for it
		}
		list, err := receipt.Fingerprint(ctx, part.name, part.files.Files(), part.config)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	return out, nil
}
