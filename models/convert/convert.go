package convert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// ErrInput is what errors about the files and names given wrap.
var ErrInput = errors.New("cannot convert")

func inputError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInput, fmt.Errorf(format, args...))
}

// Options say what to convert.
type Options struct {
	In        string            // a file or folder of one network, or the folder of a whole model
	Component weights.Component // the network of a whole model; empty: the transformer
	Out       string            // a new file; its name's ending says the format
	Type      Type
	Overwrite bool // replace an existing file
	// Resume leaves an unfinished file, Out with ".partial" after it, when the conversion is interrupted or fails, and goes on
	// from one that the same conversion left.
	Resume bool
	// Progress, if set, is called now and then, from one goroutine, with the bytes written and to be written.
	Progress func(done, total int64)
}

// Report says what was written. Errors are those of the new file's values against the old one's.
type Report struct {
	In         string            `json:"in"`
	Out        string            `json:"out"`
	Component  weights.Component `json:"component"`
	Type       Type              `json:"type"`
	Format     Format            `json:"format"`
	Tensors    int               `json:"tensors"` // of the new file, scales included
	LeftOut    []string          `json:"left_out,omitempty"`
	Parameters int64             `json:"parameters"`
	BytesIn    int64             `json:"bytes_in"`
	Bytes      int64             `json:"bytes"` // of the new file
	SHA256     string            `json:"sha256"`
	Resumed    int64             `json:"resumed,omitempty"` // bytes that an earlier run had written
	Error      Error             `json:"error"`
	Worst      string            `json:"worst,omitempty"` // the tensor with the largest rms error, if any value changed
	WorstError Error             `json:"worst_error"`
	Seconds    float64           `json:"seconds"`
}

// network is the checkpoint to be converted.
type network struct {
	component weights.Component
	path      string
	config    any
	tokenizer []weights.GGUFValue // of a text encoder, for GGUF files
}

// Run converts a checkpoint. Errors about what was asked for, or about the old file, wrap ErrInput or weights.ErrNotFinite. When
// the context ends nothing is left, but for Options.Resume.
func Run(ctx context.Context, o Options) (Report, error) {
	start := time.Now()
	format, err := formatOf(o.Out, o.Type)
	if err != nil {
		return Report{}, inputError("%w", err)
	}
	n, err := find(ctx, o)
	if err != nil {
		return Report{}, err
	}
	if err := checkOut(o, n); err != nil {
		return Report{}, err
	}
	ckpt, err := weights.OpenComponent(n.path, n.component)
	if err != nil {
		return Report{}, inputError("%w", err)
	}
	if err := notIn4Bits(ckpt); err != nil {
		return Report{}, oneline.Join(err, ckpt.Close())
	}
	r := Report{In: n.path, Out: o.Out, Component: n.component, Type: o.Type, Format: format, BytesIn: ckpt.Bytes()}
	err = r.convert(ctx, o, n, ckpt)
	r.Seconds = time.Since(start).Seconds()
	return r, oneline.Join(err, ckpt.Close())
}

// notIn4Bits refuses matrices that a new file would lack.
func notIn4Bits(ckpt *weights.Checkpoint) error {
	for _, name := range ckpt.Names() {
		if _, ok, err := ckpt.NF4(name); err != nil {
			return inputError("%w", err)
		} else if ok {
			return inputError("%s: tensor %q is held in 4 bits (bitsandbytes' nf4), which is read but not converted: use the original checkpoint", ckpt.Path(), name)
		}
	}
	return nil
}

// find recognises the network to be converted and checks that it is whole.
func find(ctx context.Context, o Options) (network, error) {
	found, err := weights.InspectWith(ctx, o.In, weights.InspectOptions{})
	if err != nil {
		return network{}, inputError("%w", err)
	}
	want := o.Component
	if want == "" {
		want = weights.DiT
	}
	for _, c := range found.Components {
		if found.Kind == weights.SingleComponent && o.Component == "" || c.Component == want {
			if c.Error != "" {
				return network{}, inputError("%s", c.Error)
			}
			return network{c.Component, c.Path, c.Config, tokenizerOf(found, c.Component)}, nil
		}
	}
	return network{}, inputError("%s holds no %s", o.In, want)
}

// maxTokenizer bounds each of a tokenizer's two files, in bytes; published ones have a few MiB.
const maxTokenizer = 32 << 20

// tokenizerOf reads the files of a text encoder's tokenizer, as kandinsky.cpp's converter puts them into its file; none where
// they are not found.
func tokenizerOf(found weights.Inspection, c weights.Component) []weights.GGUFValue {
	dir := map[weights.Component]string{weights.Qwen: found.QwenTokenizer, weights.CLIP: found.CLIPTokenizer}[c]
	if dir == "" {
		return nil
	}
	vocab, merges, err := weights.EmbeddedTokenizer(dir)
	if err != nil {
		var errs [2]error
		vocab, errs[0] = readTokenizer(filepath.Join(dir, "vocab.json"))
		merges, errs[1] = readTokenizer(filepath.Join(dir, "merges.txt"))
		if errs[0] != nil || errs[1] != nil {
			return nil
		}
	}
	return []weights.GGUFValue{{Key: weights.GGUFVocab, Value: string(vocab)}, {Key: weights.GGUFMerges, Value: string(merges)}}
}

func readTokenizer(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxTokenizer {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxTokenizer>>20)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// checkOut refuses to overwrite what is read, or anything that was not to be overwritten.
func checkOut(o Options, n network) error {
	out, err := os.Stat(o.Out)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	switch in, inErr := os.Stat(n.path); {
	case err != nil:
		return inputError("%w", err)
	case out.IsDir():
		return inputError("%s is a folder: name the new file", o.Out)
	case inErr == nil && os.SameFile(in, out):
		return inputError("%s would overwrite what it is made from", o.Out)
	case !o.Overwrite:
		return inputError("%s exists: remove it, or give --overwrite", o.Out)
	}
	return nil
}

func (r *Report) convert(ctx context.Context, o Options, n network, ckpt *weights.Checkpoint) error {
	p := newPlan(tensorsOf(ckpt), n.component, o.Type, r.Format)
	r.Tensors, r.LeftOut = len(p.outputs), p.leftOut
	w, err := p.create(o.Out, n, o.Type)
	if err != nil {
		return inputError("%w", err)
	}
	sum := sha256.New()
	j := job{plan: p, ckpt: ckpt, writer: w, progress: o.Progress, lost: map[string]*deviation{}}
	if o.Resume {
		r.Resumed, err = j.resume(o, sum)
	} else {
		err = w.CopyTo(sum)
	}
	if err == nil {
		if err = j.run(ctx); err != nil {
			err = oneline.Join(err, j.keeper.stop(w))
		} else {
			r.take(j, w, sum)
			err = finish(w, n.component, p)
		}
	}
	if err != nil {
		return oneline.Join(err, w.Abort())
	}
	return j.keeper.done()
}

// take fills in what the run found out.
func (r *Report) take(j job, w *weights.Writer, sum hash.Hash) {
	r.SHA256, r.Bytes = hex.EncodeToString(sum.Sum(nil)), w.Size()
	var all deviation
	for name, d := range j.lost {
		all.add(*d)
		if e := d.error(); e.RMS > r.WorstError.RMS || e.RMS == r.WorstError.RMS && e.RMS > 0 && name < r.Worst {
			r.Worst, r.WorstError = name, e
		}
		r.Error.Max = max(r.Error.Max, d.error().Max)
		r.Parameters += d.Count
	}
	r.Error.RMS = all.error().RMS
}

// finish reads the new file's header back, as the program will, before the file gets its name.
func finish(w *weights.Writer, c weights.Component, p plan) error {
	if err := w.Sync(); err != nil {
		return err
	}
	again, err := weights.OpenComponent(w.Temporary(), c)
	if err != nil {
		return fmt.Errorf("the new file cannot be read back: %w", err)
	}
	for _, o := range p.outputs {
		if o.scales() {
			continue
		}
		if _, err = again.Require(o.source.Name, o.source.Shape...); err != nil {
			err = fmt.Errorf("the new file cannot be read back: %w", err)
			break
		}
	}
	if err := oneline.Join(err, again.Close()); err != nil {
		return err
	}
	return w.Close()
}

// LeftOutText names what a file does not take, in few words.
func (r Report) LeftOutText() string {
	if len(r.LeftOut) == 0 {
		return ""
	}
	names := slices.Clone(r.LeftOut)
	if len(names) > 3 {
		names = append(names[:3], fmt.Sprintf("and %d more", len(r.LeftOut)-3))
	}
	return strings.Join(names, ", ")
}
