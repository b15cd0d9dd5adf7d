package kandinsky5

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// smallAdapter writes an adapter of rank 1 for some modules whose matrices are changed evenly by a number.
func smallAdapter(t *testing.T, c *Checkpoint, by float32, trigger string, modules ...string) string {
	t.Helper()
	var tensors []weights.Tensor
	add := func(name string, value float32, shape ...int) {
		values := slices.Repeat([]float32{value}, shape[0]*shape[1])
		tensor := weights.Tensor{Name: name, DType: weights.F32, Shape: shape, Data: make([]byte, 4*len(values))}
		numeric.BytesFromF32s(tensor.Data, values)
		tensors = append(tensors, tensor)
	}
	for _, e := range weights.DiTSpec(c.ditConfig().DiTConfig) {
		if module, ok := strings.CutSuffix(e.Name, ".weight"); ok && slices.Contains(modules, module) {
			add("transformer."+module+".lora_A.weight", 1, 1, e.Shape[1])
			add("transformer."+module+".lora_B.weight", by, e.Shape[0], 1)
		}
	}
	path := filepath.Join(t.TempDir(), "lora.safetensors")
	if err := weights.WriteFile(path, tensors, map[string]string{"trigger": trigger}); err != nil {
		t.Fatal(err)
	}
	return path
}

// wordRequest is a picture from a prompt alone, which depends on all of the transformer.
func wordRequest() Request {
	return Request{Prompt: "a red square turns", Width: 32, Height: 32, Steps: 1, Guidance: 1, Seed: 7}
}

func TestLoRA(t *testing.T) {
	c := smallCheckpoint(t)
	c.Config.Pipeline = configs.T2V
	d := enginetest.Open(t)
	t.Run("adapters are switched between videos", func(t *testing.T) { adaptersAreSwitched(t, d, c) })
	t.Run("the trigger goes before the prompt", func(t *testing.T) { triggerGoesFirst(t, d, c) })
}

func adaptersAreSwitched(t *testing.T, d *engine.Device, c *Checkpoint) {
	path := smallAdapter(t, c, 0.05, "", "visual_transformer_blocks.1.feed_forward.in_layer", "visual_transformer_blocks.3.self_attention.to_value")
	plain := generate(t, d, c, Options{}, wordRequest()).Clip.Pix
	adapted := generate(t, d, c, Options{LoRA: []lora.Source{{Path: path, Weight: 1}}}, wordRequest()).Clip.Pix
	if bytes.Equal(plain, adapted) {
		t.Fatal("the adapter changes nothing")
	}
	p, err := New(t.Context(), d, c, Options{BlocksInMemory: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	for k, want := range [][]byte{plain, adapted, plain} {
		var sources []lora.Source
		if k == 1 {
			sources = []lora.Source{{Path: path, Weight: 1}}
		}
		if err := p.SetLoRA(sources...); err != nil {
			t.Fatal(err)
		}
		if err := p.SetLoRA(lora.Source{Path: path + "x", Weight: 1}); err == nil {
			t.Error("an adapter that is not there is in force")
		}
		got, err := p.Generate(t.Context(), wordRequest())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Clip.Pix, want) {
			t.Errorf("after switching to %v the picture is another than with a new pipeline", sources)
		}
		if len(got.Settings.LoRA) != len(sources) {
			t.Errorf("the settings say %+v", got.Settings.LoRA)
		}
	}
}

// triggerGoesFirst has an adapter that changes no weight.
func triggerGoesFirst(t *testing.T, d *engine.Device, c *Checkpoint) {
	path := smallAdapter(t, c, 0, "a lens turns, ", "time_embeddings.in_layer")
	r := wordRequest()
	plain := generate(t, d, c, Options{}, r).Clip.Pix
	got := generate(t, d, c, Options{LoRA: []lora.Source{{Path: path, Weight: 1}}}, r)
	if got.Settings.Trigger != "a lens turns, " || got.Settings.Prompt != r.Prompt {
		t.Errorf("the settings say trigger %q, prompt %q", got.Settings.Trigger, got.Settings.Prompt)
	}
	r.Prompt = "a lens turns, " + r.Prompt
	if want := generate(t, d, c, Options{}, r).Clip.Pix; !bytes.Equal(got.Clip.Pix, want) {
		t.Error("the picture is not that of the prompt behind the trigger")
	} else if bytes.Equal(want, plain) {
		t.Error("the trigger changes nothing")
	}
}

func TestTheTriggerIsBeforeAnExpandedPromptToo(t *testing.T) {
	s := Settings{Prompt: "fox", ExpandedPrompt: "A red fox.", Trigger: "zoom, ", NegativePrompt: "dull", Guidance: 5}
	if got := s.texts(); !slices.Equal(got, []string{"zoom, A red fox.", "dull"}) {
		t.Errorf("texts are %q", got)
	}
}
