package kandinsky5

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/models/convert"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
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
	d := enginetest.OpenPlain(t)
	t.Run("adapters are switched between videos", func(t *testing.T) { adaptersAreSwitched(t, d, c) })
	t.Run("a switch that fails changes nothing", func(t *testing.T) { failedSwitchChangesNothing(t, d, c) })
	t.Run("the trigger goes before the prompt", func(t *testing.T) { triggerGoesFirst(t, d, c) })
}

func adaptersAreSwitched(t *testing.T, d *engine.Device, c *Checkpoint) {
	path := smallAdapter(t, c, 0.05, "", "visual_transformer_blocks.1.feed_forward.in_layer", "visual_transformer_blocks.3.self_attention.to_value",
		"text_transformer_blocks.0.self_attention.to_value", "out_layer.out_layer")
	on := []lora.Source{{Path: path, Weight: 1}}
	for _, o := range []Options{{HostTier: swap.Pinned}, {HostTier: swap.Mapped}, {HostTier: swap.Pinned, HostWeights: load.Int8Weights}, {HostTier: swap.Pinned, HostWeights: load.CodedWeights}, {HostTier: swap.Pinned, Linear: load.LinearInt8}} {
		plain := generate(t, d, c, o, wordRequest()).Clip.Pix
		o.LoRA = on
		adapted := generate(t, d, c, o, wordRequest()).Clip.Pix
		if bytes.Equal(plain, adapted) {
			t.Fatal("the adapter changes nothing")
		}
		o.BlocksInMemory, o.StreamSlots, o.LoRA = 3, 1, nil
		p, err := New(t.Context(), d, c, o)
		if err != nil {
			t.Fatal(err)
		}
		for k, step := range []struct {
			sources []lora.Source
			want    []byte
		}{{nil, plain}, {on, adapted}, {nil, plain}} {
			switchTo(t, p, step.sources, step.want, fmt.Sprintf("%s, waiting in %q, linear layers %s, step %d", o.HostTier, o.HostWeights, o.Linear, k))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// switchTo changes a pipeline's adapters, fails to change them once more, and checks the picture.
func switchTo(t *testing.T, p *Pipeline, sources []lora.Source, want []byte, name string) {
	t.Helper()
	if err := p.SetLoRA(t.Context(), sources...); err != nil {
		t.Fatal(err)
	}
	if err := p.SetLoRA(t.Context(), lora.Source{Path: "none.safetensors", Weight: 1}); err == nil {
		t.Errorf("%s: an adapter that is not there is in force", name)
	}
	got, err := p.Generate(t.Context(), wordRequest())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Clip.Pix, want) {
		t.Errorf("%s: the picture is another than with a new pipeline", name)
	}
	if len(got.Settings.LoRA) != len(sources) {
		t.Errorf("%s: the settings say %+v", name, got.Settings.LoRA)
	}
}

// failedSwitchChangesNothing ends a switch of adapters while weights are read.
func failedSwitchChangesNothing(t *testing.T, d *engine.Device, c *Checkpoint) {
	path := smallAdapter(t, c, 0.05, "", "visual_transformer_blocks.1.feed_forward.in_layer", "visual_transformer_blocks.3.feed_forward.in_layer")
	p, err := New(t.Context(), d, c, Options{BlocksInMemory: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	want, err := p.Generate(t.Context(), wordRequest())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.SetLoRA(ctx, lora.Source{Path: path, Weight: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want cancelled", err)
	}
	again, err := p.Generate(t.Context(), wordRequest())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Clip.Pix, want.Clip.Pix) || len(again.Settings.LoRA) != 0 {
		t.Error("a switch that was cancelled changes the picture")
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

// TestAdaptersOnConvertedCheckpoints: added by the host or on the device, to weights of any type, adapters make nearly the same
// picture, and with several blocks in memory the same.
func TestAdaptersOnConvertedCheckpoints(t *testing.T) {
	d, source := enginetest.Open(t), smallModel(t)
	path := smallAdapter(t, openSmall(t, source), 0.02, "", "visual_transformer_blocks.1.feed_forward.in_layer", "visual_transformer_blocks.3.self_attention.to_value",
		"visual_transformer_blocks.2.visual_modulation.out_layer")
	for typ, host := range map[convert.Type]load.HostWeights{convert.Q8_0: "", convert.Int8: load.Int8Weights} {
		dir := filepath.Join(t.TempDir(), "model")
		if err := os.CopyFS(dir, os.DirFS(source)); err != nil {
			t.Fatal(err)
		}
		ext := ".safetensors"
		if typ == convert.Q8_0 {
			ext = ".gguf"
		}
		convertIn(t, dir, weights.DiT, "transformer", ext, typ)
		plain := madeOf(t, d, dir, Options{HostTier: swap.Pinned, HostWeights: host})
		o := Options{HostTier: swap.Pinned, HostWeights: host, LoRA: []lora.Source{{Path: path, Weight: 1}}}
		onHost := madeOf(t, d, dir, o)
		o.HostTier, o.BlocksInMemory = swap.Mapped, 1
		onDevice := madeOf(t, d, dir, o)
		o.BlocksInMemory, o.StreamSlots = 3, 1
		changed, off := levelsOff(onHost, plain), levelsOff(onDevice, onHost)
		t.Logf("%s: the adapter changes %.2f levels, the device differs from the host by %.3f", typ, changed, off)
		if !(off <= 0.2*changed) || changed == 0 {
			t.Errorf("%s: the device differs from the host by %.3f levels, of %.2f that the adapter changes", typ, off, changed)
		}
		if more := madeOf(t, d, dir, o); !bytes.Equal(more, onDevice) {
			t.Errorf("%s: with three blocks in memory the picture is another", typ)
		}
	}
}
