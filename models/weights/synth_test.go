package weights

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func synthInto(t *testing.T, opt SynthOptions) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "модель one")
	if err := Synth(context.Background(), dir, opt); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree reads all files below a folder.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSynthWritesAWholeSoundModel(t *testing.T) {
	for _, d := range []DType{Invalid, F16, F32} {
		for _, shard := range []int64{0, 100_000} {
			t.Run(fmt.Sprintf("%s in shards of %d", d, shard), func(t *testing.T) {
				opt := SmallSynth()
				opt.DType, opt.MaxShardBytes = d, shard
				var last, total int64
				opt.Progress = func(done, all int64) {
					if done <= last || done > all {
						t.Errorf("progress went from %d to %d of %d", last, done, all)
					}
					last, total = done, all
				}
				dir := synthInto(t, opt)
				if last != total || total == 0 {
					t.Errorf("progress ended at %d of %d", last, total)
				}
				got, err := InspectWith(context.Background(), dir, InspectOptions{Values: true})
				if err != nil {
					t.Fatal(err)
				}
				if !got.OK() || got.Kind != DiffusersLayout || len(got.Components) != 4 || got.Scheduler == "" {
					t.Fatalf("%+v", got)
				}
				var bytes int64
				for i, want := range []any{opt.DiT, opt.VAE, opt.Qwen, opt.CLIP} {
					c := got.Components[i]
					bytes += c.Bytes
					if !reflect.DeepEqual(c.Config, want) {
						t.Errorf("%s: config read back is %+v, want %+v", c.Component, c.Config, want)
					}
					if len(c.Report.Unexpected) != 0 || (shard > 0) != (len(c.Files) > 1) && c.Bytes > shard {
						t.Errorf("%s: unexpected %v, files %v", c.Component, c.Report.Unexpected, c.Files)
					}
				}
				if bytes != total {
					t.Errorf("%d bytes of tensors, progress said %d", bytes, total)
				}
			})
		}
	}
}

func TestSynthIsDeterministicAndFollowsItsSeed(t *testing.T) {
	opt := SmallSynth()
	one, again := tree(t, synthInto(t, opt)), tree(t, synthInto(t, opt))
	if !reflect.DeepEqual(one, again) {
		t.Error("two runs differ")
	}
	opt.Seed = 1
	other := tree(t, synthInto(t, opt))
	for name := range one {
		if same := bytes.Equal(one[name], other[name]); strings.HasSuffix(name, fileSuffix) == same {
			t.Errorf("%s: equal under another seed: %v", name, same)
		}
	}
}

func TestSynthValuesHaveTheDistributionsOfTheirRoles(t *testing.T) {
	dir := synthInto(t, SmallSynth())
	check := func(c Component, folder, name string, mean, deviation float64) {
		t.Helper()
		ckpt, err := OpenComponent(filepath.Join(dir, folder), c)
		if err != nil {
			t.Fatal(err)
		}
		defer ckpt.Close()
		ten, ok := ckpt.Tensor(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		var sum, squares float64
		values := ten.Float32s()
		for _, v := range values {
			sum += float64(v)
			squares += float64(v) * float64(v)
		}
		n := float64(len(values))
		m := sum / n
		s := math.Sqrt(max(0, squares/n-m*m))
		if math.Abs(m-mean) > 5*deviation/math.Sqrt(n)+1e-6 || math.Abs(s-deviation) > 0.1*deviation {
			t.Errorf("%s: mean %g, deviation %g, want %g, %g", name, m, s, mean, deviation)
		}
	}
	check(DiT, "transformer", "visual_transformer_blocks.5.feed_forward.in_layer.weight", 0, 1/math.Sqrt(128))
	check(DiT, "transformer", "visual_transformer_blocks.0.self_attention.query_norm.weight", 1, 0)
	check(DiT, "transformer", "visual_transformer_blocks.0.visual_modulation.out_layer.weight", 0, 0.5/math.Sqrt(64))
	check(Qwen, "text_encoder", "model.embed_tokens.weight", 0, 1)
	check(VAE, "vae", "decoder.mid_block.attentions.0.to_q.weight", 0, 1/math.Sqrt(32))
	ckpt, err := OpenComponent(filepath.Join(dir, "vae"), VAE)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	bias, _ := ckpt.Tensor("quant_conv.bias")
	if b := bias.Float32s(); math.Abs(float64(b[15])) > 0.2 || math.Abs(float64(b[16])+8) > 0.2 {
		t.Errorf("posterior bias %v", b)
	}
	kernel, _ := ckpt.Tensor("decoder.conv_in.conv.weight")
	var centre, corner float64
	for i, v := range kernel.Float32s() {
		switch i % 27 {
		case 13:
			centre += math.Abs(float64(v))
		case 0:
			corner += math.Abs(float64(v))
		}
	}
	if centre < 2.5*corner {
		t.Errorf("kernels are not smooth: centre %g, corner %g", centre, corner)
	}
}

func TestSynthBlocksDoNotDependOnHowTheyAreCut(t *testing.T) {
	info := TensorInfo{"w", F32, []int{300_000}}
	fill := normal(newNoise(9, DiT, info.Name), 1)
	whole := make([]byte, info.Bytes())
	fillParallel(whole, F32, 0, fill)
	var pieces []byte
	for at, n := int64(0), int64(70_001); at < 300_000; at += n {
		piece := make([]byte, 4*min(n, 300_000-at))
		fillParallel(piece, F32, at, fill)
		pieces = append(pieces, piece...)
	}
	if !bytes.Equal(whole, pieces) {
		t.Error("blocks differ")
	}
}

func TestSynthLeavesNothingBehind(t *testing.T) {
	t.Run("when cancelled in the middle", func(t *testing.T) {
		parent := t.TempDir()
		ctx, cancel := context.WithCancel(context.Background())
		opt := SmallSynth()
		opt.Progress = func(done, total int64) {
			if done > total/2 {
				cancel()
			}
		}
		if err := Synth(ctx, filepath.Join(parent, "m"), opt); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		if got := names(t, parent); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
	})
	t.Run("when the folder is not empty", func(t *testing.T) {
		dir := folder(t, map[string][]byte{"keep.txt": []byte("x")})
		if err := Synth(context.Background(), dir, SmallSynth()); err == nil || !strings.Contains(err.Error(), "not empty") {
			t.Errorf("error %v", err)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Errorf("folder holds %v", got)
		}
	})
	t.Run("and takes an existing empty folder", func(t *testing.T) {
		dir := t.TempDir()
		if err := Synth(context.Background(), dir, SmallSynth()); err != nil {
			t.Fatal(err)
		}
		if !isFile(filepath.Join(dir, "model_index.json")) {
			t.Error("no model was written")
		}
	})
}

func TestSynthRefusesConfigurationsThatDoNotFitTogether(t *testing.T) {
	for want, change := range map[string]func(*SynthOptions){
		"in_text_dim ":     func(o *SynthOptions) { o.DiT.InTextDim++ },
		"in_text_dim2":     func(o *SynthOptions) { o.DiT.InTextDim2++ },
		"latent_channels":  func(o *SynthOptions) { o.VAE.LatentChannels = 4 },
		"I32":              func(o *SynthOptions) { o.DType = I32 },
		"shards":           func(o *SynthOptions) { o.MaxShardBytes = -1 },
		"vocab_size 270":   func(o *SynthOptions) { o.Qwen.Text.VocabSize = 270 },
		"vocab_size 500":   func(o *SynthOptions) { o.CLIP.VocabSize = 500 },
		"<|image_pad|>":    func(o *SynthOptions) { o.Qwen.ImageTokenID = 5 },
		"same id":          func(o *SynthOptions) { o.Qwen.ImageTokenID = o.Qwen.VideoTokenID },
		"num_text_blocks":  func(o *SynthOptions) { o.DiT.NumTextBlocks = -1 },
		"out_hidden_size ": func(o *SynthOptions) { o.Qwen.Vision.OutHiddenSize++ },
	} {
		opt := SmallSynth()
		change(&opt)
		parent := t.TempDir()
		if err := Synth(context.Background(), filepath.Join(parent, "m"), opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that says %q", err, want)
		}
		if got := names(t, parent); len(got) != 0 {
			t.Errorf("%s: left %v", want, got)
		}
	}
}

func TestSynthMemoryDoesNotGrowWithTheModel(t *testing.T) {
	info := TensorInfo{"w", BF16, []int{16384, 8192}} // 256 MiB
	s := synth{ctx: context.Background(), opt: SmallSynth()}
	s.total = info.Bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := s.tensor(discard{}, DiT, info); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 40<<20 {
		t.Errorf("%d MiB allocated for a tensor of 256 MiB", got>>20)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkSynthBF16(b *testing.B) {
	info := TensorInfo{"w", BF16, []int{4096, 4096}}
	block := make([]byte, info.Bytes())
	fill := initialiser(DiT, info, 1)
	b.SetBytes(info.Bytes())
	for b.Loop() {
		fillParallel(block, BF16, 0, fill)
	}
}
