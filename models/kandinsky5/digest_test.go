package kandinsky5

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestDigests(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	r := guidedRequest()
	r.Digests = true
	want := generate(t, d, c, Options{BlocksInMemory: 2}, r)
	checkDigests(t, want)
	if plain := generate(t, d, c, Options{}, guidedRequest()); plain.Digests != nil || !bytes.Equal(want.Clip.Pix, plain.Clip.Pix) {
		t.Error("hashing changes the frames, or is done without being asked for")
	}
	t.Run("of the steps are those of the latents", func(t *testing.T) { stepsAreHashed(t, d) })
	t.Run("are left out where the host has no memory", func(t *testing.T) {
		small := enginetest.OpenPlainWith(t, engine.Options{HostBudget: 64 << 10})
		g := &digester{device: small, log: slog.New(slog.DiscardHandler)}
		latents, err := small.Alloc("latents", engine.F32, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		defer small.Free(latents)
		if err := g.start(latents, []float32{1}, 1, nil); err != nil || g.host != nil {
			t.Errorf("got %v", err)
		}
		g.record(latents)
		g.step(0)
		if err := g.final(t.Context(), latents); err != nil || len(g.out.Latents) != 0 || g.out.Noise == "" {
			t.Errorf("%v, %+v", err, g.out)
		}
		g.close()
	})
}

// checkDigests checks what is known without another run.
func checkDigests(t *testing.T, r *Result) {
	t.Helper()
	g, s := r.Digests, r.Settings
	noise, err := LatentNoise(s.Seed, s.Geometry.LatentFrames*s.Geometry.LatentHeight*s.Geometry.LatentWidth*16)
	if err != nil {
		t.Fatal(err)
	}
	if g.Noise != receipt.SumF32(noise) || g.Frames != receipt.Sum(r.Clip.Pix) {
		t.Error("the noise or the frames have other digests")
	}
	if g.Final != g.FirstFrame { // of one latent frame, which is put back at the end
		t.Error("the first frame is not put back")
	}
	all := []string{g.Noise, g.Final, g.Frames, g.Text[0].Rows, g.Text[0].Pooled, g.Text[1].Rows, g.Text[1].Pooled}
	seen := map[string]bool{}
	for _, d := range append(all, g.Latents...) {
		if len(d) != 64 || seen[d] {
			t.Errorf("digest %q is none or not the only one", d)
		}
		seen[d] = true
	}
	if len(g.Latents) != s.Steps || len(r.Stats.StepTimes) != s.Steps || r.Stats.Tiles == "" || r.Stats.HostTier == "" {
		t.Errorf("%d latents, stats %+v", len(g.Latents), r.Stats)
	}
}

// stepsAreHashed lets a digester follow latents that change in every step.
func stepsAreHashed(t *testing.T, d *engine.Device) {
	const n, steps = 1000, 5
	latents, err := d.Alloc("latents", engine.F32, n)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free(latents)
	g := &digester{device: d, log: slog.New(slog.DiscardHandler)}
	if err := g.start(latents, make([]float32, n), steps+1, nil); err != nil {
		t.Fatal(err)
	}
	want := []string{""}
	for k := range steps {
		word := math.Float32bits(float32(k) + 0.5)
		d.Compute().Fill(latents, word)
		g.record(latents)
		if err := d.Compute().Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.step(k + 1) // as if a first step had been made before
		want = append(want, receipt.Sum(bytes.Repeat(binary.LittleEndian.AppendUint32(nil, word), n)))
	}
	if err := g.final(t.Context(), latents); err != nil {
		t.Fatal(err)
	}
	g.close()
	if diff := cmp.Diff(want, g.out.Latents); diff != "" || g.out.Final != want[steps] {
		t.Errorf("final %s, steps %s", g.out.Final, diff)
	}
}

func TestFingerprints(t *testing.T) {
	dir := smallModel(t)
	prints := func() []receipt.Weights {
		t.Helper()
		p := &Pipeline{ckpt: openSmall(t, dir)}
		if err := p.nets.open(p.ckpt); err != nil {
			t.Fatal(err)
		}
		list, err := p.Fingerprints(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p.Fingerprints(t.Context()); err != nil || cmp.Diff(list, again) != "" {
			t.Errorf("asked again: %v, %v", again, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		return list
	}
	want := prints()
	if len(want) != 4 || cmp.Diff(want, prints()) != "" {
		t.Fatalf("%+v", want)
	}
	file := filepath.Join(dir, "vae", want[1].File)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// The middle of each tensor is covered, whichever it is.
	f, err := weights.OpenBytes(file, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range f.Names() {
		tensor, _ := f.Tensor(name)
		tensor.Data[len(tensor.Data)/2] ^= 1
		break
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := receipt.CompareWeights(want, prints()); len(got) != 1 || got[0].Name != "vae" {
		t.Errorf("after a bit of the VAE: %+v", got)
	}
}

func TestFingerprintsOfAFileThatHasShrunkAreAnError(t *testing.T) {
	p := &Pipeline{ckpt: openSmall(t, smallModel(t))}
	if err := p.nets.open(p.ckpt); err != nil {
		t.Fatal(err)
	}
	file := p.nets.vae.Files()[0].Path()
	truncate(t, file, 4096)
	if _, err := p.Fingerprints(t.Context()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names %s", err, file)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestFingerprintsEndWithThePipeline(t *testing.T) {
	p := &Pipeline{ckpt: openSmall(t, smallModel(t))}
	if err := p.nets.open(p.ckpt); err != nil {
		t.Fatal(err)
	}
	p.PrepareFingerprints()
	done := p.prints.done
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-done:
	default:
		t.Error("the files are closed while they are read")
	}
}
