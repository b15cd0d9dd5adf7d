package weights

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
)

func TestFindLayoutRecognisesBothPublishedArrangements(t *testing.T) {
	one := tiny("a")
	upstream := map[string][]byte{
		"model/kandinsky5pro_i2v_sft_5s.safetensors": one,
		"vae/config.json": nil, "vae/diffusion_pytorch_model.safetensors": one,
		"text_encoder/config.json": nil, "text_encoder/model.safetensors.index.json": one, "text_encoder/vocab.json": nil,
		"text_encoder/merges.txt": nil, "text_encoder/generation_config.json": nil,
		"text_encoder2/config.json": nil, "text_encoder2/model.safetensors": one, "text_encoder2/tokenizer.json": nil,
	}
	diffusers := map[string][]byte{
		"model_index.json": nil, "transformer/config.json": nil, "transformer/diffusion_pytorch_model.safetensors": one,
		"vae/config.json": nil, "vae/diffusion_pytorch_model.safetensors": one, "text_encoder/model.safetensors": one,
		"text_encoder_2/model.safetensors": one, "tokenizer/vocab.json": nil, "tokenizer/merges.txt": nil, "tokenizer_2/vocab.json": nil,
		"tokenizer_2/merges.txt": nil, "scheduler/scheduler_config.json": nil,
	}
	t.Run("upstream", func(t *testing.T) {
		dir := folder(t, upstream)
		l, err := FindLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		in := func(p string) string { return filepath.Join(dir, filepath.FromSlash(p)) }
		want := Layout{
			Kind: UpstreamLayout, Root: dir, DiT: Part{Path: in("model/kandinsky5pro_i2v_sft_5s.safetensors")},
			VAE: Part{Path: in("vae"), Config: in("vae/config.json")}, Qwen: Part{Path: in("text_encoder"), Config: in("text_encoder/config.json")},
			CLIP: Part{Path: in("text_encoder2"), Config: in("text_encoder2/config.json")}, QwenTokenizer: in("text_encoder"),
			CLIPTokenizer: in("text_encoder2"), Generation: in("text_encoder/generation_config.json"),
		}
		if l != want {
			t.Errorf("got  %+v\nwant %+v", l, want)
		}
		if err := l.Require(Components()...); err != nil {
			t.Error(err)
		}
		named, err := LayoutOf(Paths{DiT: want.DiT.Path, VAE: want.VAE.Path, Qwen: want.Qwen.Path, CLIP: want.CLIP.Path})
		want.Root = in("model")
		if err != nil || named != want {
			t.Errorf("by name: %+v, %v", named, err)
		}
	})
	t.Run("diffusers", func(t *testing.T) {
		dir := folder(t, diffusers)
		l, err := FindLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		if l.Kind != DiffusersLayout || l.DiT.Path != filepath.Join(dir, "transformer") || l.DiT.Config == "" || l.CLIP.Path != filepath.Join(dir, "text_encoder_2") ||
			l.QwenTokenizer != filepath.Join(dir, "tokenizer") || l.CLIPTokenizer != filepath.Join(dir, "tokenizer_2") || l.Scheduler == "" {
			t.Errorf("%+v", l)
		}
		if err := l.Require(Components()...); err != nil {
			t.Error(err)
		}
	})
	t.Run("two transformers", func(t *testing.T) {
		if _, err := FindLayout(folder(t, map[string][]byte{"model/a.safetensors": one, "model/b.safetensors": one})); err == nil || !strings.Contains(err.Error(), "a.safetensors, b.safetensors") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("absent parts are listed together", func(t *testing.T) {
		l, err := FindLayout(folder(t, map[string][]byte{"model_index.json": nil, "vae/x.safetensors": one}))
		if err != nil {
			t.Fatal(err)
		}
		err = l.Require(Components()...)
		for _, want := range []string{"dit (", "qwen (", "clip (", "qwen tokenizer", "clip tokenizer"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
		if strings.Contains(err.Error(), "vae (") {
			t.Errorf("%v lists what is there", err)
		}
	})
	t.Run("paths that do not exist", func(t *testing.T) {
		if _, err := LayoutOf(Paths{DiT: filepath.Join(t.TempDir(), "none.safetensors")}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
		if _, err := FindLayout(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("error %v", err)
		}
		if _, err := FindLayout(writeTemp(t, "file", nil)); err == nil {
			t.Error("a file passed for a model's folder")
		}
	})
}

func TestConfigurationsAreInferredFromShapes(t *testing.T) {
	for _, name := range []string{"dit_full_lite", "dit_full_pro", "dit_t2v_lite"} {
		t.Run(name, func(t *testing.T) {
			ckpt := goldenCheckpoint(t, name+".safetensors", DiT)
			want, err := ParseDiTConfig([]byte(ckpt.Files()[0].Metadata()["config"]))
			if err != nil {
				t.Fatal(err)
			}
			if got, from, err := LoadDiTConfig(Part{}, ckpt); err != nil || got != want || from != "inferred" {
				t.Errorf("%+v from %s, %v, want %+v", got, from, err, want)
			}
		})
	}
	t.Run("networks with published head widths", func(t *testing.T) {
		opt := publishedHeads()
		dir := synthInto(t, opt)
		for _, sub := range []string{"transformer", "vae", "text_encoder", "text_encoder_2"} {
			if err := os.Remove(filepath.Join(dir, sub, "config.json")); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Inspect(dir)
		if err != nil || !got.OK() {
			t.Fatalf("%v, %v", got.Problems, err)
		}
		wantQwen := opt.Qwen
		q := Qwen7B()
		wantQwen.BOSTokenID, wantQwen.EOSTokenID, wantQwen.ImageTokenID, wantQwen.VideoTokenID = q.BOSTokenID, q.EOSTokenID, q.ImageTokenID, q.VideoTokenID
		wantQwen.VisionStartTokenID, wantQwen.VisionEndTokenID = q.VisionStartTokenID, q.VisionEndTokenID
		for i, want := range []any{opt.DiT, opt.VAE, wantQwen, opt.CLIP} {
			g, _ := json.Marshal(got.Components[i].Config)
			w, _ := json.Marshal(want)
			if string(g) != string(w) || got.Components[i].ConfigFrom != "inferred" {
				t.Errorf("%s: got %s, want %s", got.Components[i].Component, g, w)
			}
		}
	})
	t.Run("and the wrong checkpoint is told from its lack of tensors", func(t *testing.T) {
		ckpt := goldenCheckpoint(t, "vae.safetensors", VAE)
		if _, err := InferDiT(ckpt); err == nil || !strings.Contains(err.Error(), "text_embeddings.in_layer.weight") {
			t.Errorf("error %v", err)
		}
	})
}

// publishedHeads is a small model whose heads and norms are as wide as the published ones, so that its
// configuration can be inferred.
func publishedHeads() SynthOptions {
	opt := SmallSynth()
	opt.VAE.BlockOutChannels, opt.VAE.NormNumGroups = []int{32, 32, 64, 64}, 32
	opt.Qwen = Qwen7B()
	t, v := &opt.Qwen.Text, &opt.Qwen.Vision
	t.HiddenSize, t.IntermediateSize, t.NumHiddenLayers, t.NumAttentionHeads, t.NumKeyValueHeads, t.VocabSize = 256, 64, 2, 2, 1, 600
	v.Depth, v.HiddenSize, v.IntermediateSize, v.NumHeads, v.OutHiddenSize = 32, 80, 32, 1, 256
	s := SmallSynth().Qwen
	opt.Qwen.BOSTokenID, opt.Qwen.EOSTokenID, opt.Qwen.ImageTokenID, opt.Qwen.VideoTokenID = s.BOSTokenID, s.EOSTokenID, s.ImageTokenID, s.VideoTokenID
	opt.Qwen.VisionStartTokenID, opt.Qwen.VisionEndTokenID = s.VisionStartTokenID, s.VisionEndTokenID
	opt.DiT.InTextDim, opt.CLIP.NumAttentionHeads = 256, 1
	return opt
}

func TestInspectSaysWhatIsWrong(t *testing.T) {
	dir := synthInto(t, SmallSynth())
	t.Run("a single network's folder", func(t *testing.T) {
		got, err := Inspect(filepath.Join(dir, "vae"))
		if err != nil || !got.OK() || got.Kind != SingleComponent || len(got.Components) != 1 || got.Components[0].Component != VAE {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("a single file", func(t *testing.T) {
		got, err := Inspect(filepath.Join(dir, "transformer", "diffusion_pytorch_model.safetensors"))
		if err != nil || !got.OK() || got.Components[0].Component != DiT || got.Components[0].Parameters != DiTSpec(SmallSynth().DiT).Parameters() {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("a file of something else", func(t *testing.T) {
		if _, err := Inspect(testdata.Shared(t, "golden/torch_cuda_randn.safetensors")); err == nil || !strings.Contains(err.Error(), "none of the networks") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("damage in several places", func(t *testing.T) {
		broken := synthInto(t, SmallSynth())
		vae := filepath.Join(broken, "vae", "diffusion_pytorch_model.safetensors")
		data, err := os.ReadFile(vae)
		if err != nil {
			t.Fatal(err)
		}
		for path, content := range map[string][]byte{
			vae: data[:len(data)-10],
			filepath.Join(broken, "transformer", "diffusion_pytorch_model.safetensors"): tiny("visual_embeddings.in_layer.weight", "surprise"),
			filepath.Join(broken, "text_encoder_2", "config.json"):                      []byte(`{"num_attention_heads":"two"}`),
		} {
			if err := os.WriteFile(path, content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(filepath.Join(broken, "tokenizer", "merges.txt")); err != nil {
			t.Fatal(err)
		}
		got, err := Inspect(broken)
		if err != nil || len(got.Problems) != 4 {
			t.Fatalf("%q, %v", got.Problems, err)
		}
		for i, want := range []string{"visual_embeddings.in_layer.weight", "truncated", "num_attention_heads", "qwen tokenizer"} {
			if !strings.Contains(got.Problems[i], want) || strings.Contains(got.Problems[i], "\n") {
				t.Errorf("problem %d: %q, want one line about %q", i, got.Problems[i], want)
			}
		}
		if r := got.Components[0].Report; len(r.Unexpected) != 1 || len(r.Missing) == 0 || len(r.WrongShape) != 1 {
			t.Errorf("report %+v", r)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Errorf("not JSON: %v", err)
		}
	})
	t.Run("a NaN among the weights, only when values are read", func(t *testing.T) {
		poisoned := synthInto(t, SmallSynth())
		path := filepath.Join(poisoned, "transformer", "diffusion_pytorch_model.safetensors")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[len(data)-1], data[len(data)-2] = 0x7f, 0xc0
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := Inspect(poisoned); err != nil || !got.OK() {
			t.Errorf("headers only: %q, %v", got.Problems, err)
		}
		got, err := InspectWith(context.Background(), poisoned, InspectOptions{Values: true})
		if err != nil || len(got.Problems) != 1 || !strings.Contains(got.Problems[0], "NaN") || !strings.Contains(got.Problems[0], path) {
			t.Errorf("with values: %q, %v", got.Problems, err)
		}
	})
}
