package kandinsky5

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/tokenizer"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// few are options for texts short enough for a software driver, fewStreamed the same with streamed layers, and fewQuantized with
// these in 4 bits.
var (
	few          = Options{ExpandTokens: 5}
	fewStreamed  = Options{ExpandTokens: 5, QwenLayersInMemory: 1}
	fewQuantized = Options{ExpandTokens: 5, QwenLayersInMemory: 1, QuantizeQwen: true}
)

// TestExpansion has one device for all its parts, as TestPipeline.
func TestExpansion(t *testing.T) {
	c := smallCheckpoint(t)
	d := enginetest.OpenPlain(t)
	t.Run("the text grows, and is what is encoded", func(t *testing.T) { expandedIsEncoded(t, d, c) })
	t.Run("however the layers are held", func(t *testing.T) { expandsAlikeHoweverHeld(t, d, c) })
	t.Run("the plan is what it takes", func(t *testing.T) { expansionIsPlanned(t, d, c) })
	t.Run("cancelling in the middle gives everything back", func(t *testing.T) { cancelExpansion(t, d, c) })
	t.Run("matrices in 4 bits are kept until the text is encoded", func(t *testing.T) { keepUntilEncoded(t, d, c) })
	t.Run("pads in the prompt are refused", func(t *testing.T) { refusePads(t, d, c) })
}

// expand returns the expanded prompt, and all that was told of it.
func expand(t *testing.T, d *engine.Device, c *Checkpoint, o Options, r Request) (text string, told []string) {
	t.Helper()
	p, err := New(t.Context(), d, c, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r.Expanding = func(s string) { told = append(told, s) }
	if text, err = p.ExpandPrompt(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return text, told
}

func expandedIsEncoded(t *testing.T, d *engine.Device, c *Checkpoint) {
	c = promptAlone(c) // the only frame of a clip from a picture does not depend on the prompt
	request := pictureRequest()
	request.Image = nil
	text, told := expand(t, d, c, few, request)
	if len(told) < 2 || told[len(told)-1] != text {
		t.Fatalf("told %q, returned %q", told, text)
	}
	for k, s := range told {
		if k > 0 && !strings.HasPrefix(s, told[k-1]) || !utf8.ValidString(s) {
			t.Errorf("%q follows %q", s, told[k-1])
		}
	}
	request.ExpandPrompt = true
	expanded := generate(t, d, c, few, request)
	if expanded.Settings.ExpandedPrompt != text || expanded.Settings.Prompt != request.Prompt || expanded.Stats.Stages[0].Stage != StageExpand {
		t.Errorf("settings %+v, stages %+v", expanded.Settings, expanded.Stats.Stages)
	}
	request.ExpandPrompt, request.Prompt = false, text
	if written := generate(t, d, c, few, request); !bytes.Equal(written.Clip.Pix, expanded.Clip.Pix) {
		t.Error("the expanded prompt makes another picture than the same prompt written by hand")
	}
	request.Prompt = "something else"
	if other := generate(t, d, c, few, request); bytes.Equal(other.Clip.Pix, expanded.Clip.Pix) {
		t.Error("the picture does not depend on the prompt")
	}
}

func expandsAlikeHoweverHeld(t *testing.T, d *engine.Device, c *Checkpoint) {
	want, _ := expand(t, d, c, few, pictureRequest())
	if got, _ := expand(t, d, c, fewStreamed, pictureRequest()); got != want {
		t.Errorf("streamed layers write %q, resident ones %q", got, want)
	}
}

func TestTheConversationShowsThePictureAsItWasGiven(t *testing.T) {
	c := openSmall(t, smallModel(t))
	tok, err := tokenizer.OpenQwen(c.Layout.QwenTokenizer)
	if err != nil {
		t.Fatal(err)
	}
	q := weights.SmallSynth().Qwen
	request := pictureRequest()
	request.Image = gradient(112, 170)
	settings, err := Resolve(c.Config, request)
	if err != nil {
		t.Fatal(err)
	}
	e, err := newExpansion(c.Layout, q, settings)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := e.ids(tok)
	if err != nil {
		t.Fatal(err)
	}
	pads := 0
	for _, id := range ids {
		if int(id) == q.ImageTokenID {
			pads++
		}
	}
	if e.picture != request.Image || e.patches != 8*12 || pads != 4*6 {
		t.Errorf("%d patches, %d pads for a picture of 112×170", e.patches, pads)
	}
	text := tok.Decode(ids, true)
	if !strings.HasPrefix(text, "system\nYou are a helpful assistant.\nuser\nYou are a prompt beautifier") || !strings.HasSuffix(text, "\nassistant\n") ||
		!strings.Contains(text, `Rewrite Prompt: "a red square turns" to get high-quality image to video generation from this image.`) {
		t.Errorf("the conversation is\n%s", text)
	}
	request.Image = nil
	if settings, err = Resolve(promptAlone(c).Config, request); err != nil {
		t.Fatal(err)
	}
	if e, err = newExpansion(c.Layout, q, settings); err != nil || e.picture != nil || !strings.Contains(e.text, "200 million videos") || strings.Contains(e.text, tokenizer.ImagePad) {
		t.Errorf("%v, the conversation without a picture is\n%s", err, e.text)
	}
}

// promptAlone is a checkpoint used without pictures.
func promptAlone(c *Checkpoint) *Checkpoint {
	config := *c.Config
	config.Pipeline = configs.T2V
	return &Checkpoint{Config: &config, Layout: c.Layout}
}

// gradient is a gradient of any size.
func gradient(height, width int) *Image {
	im := &Image{Height: height, Width: width, Pix: make([]uint8, 3*height*width)}
	for k := range im.Pix {
		im.Pix[k] = uint8(k % 251)
	}
	return im
}

func expansionIsPlanned(t *testing.T, d *engine.Device, c *Checkpoint) {
	caps := d.Caps()
	limits := PlanLimits{MaxAllocation: caps.MaxAllocation, MaxStorageRange: caps.MaxStorageRange, Half: caps.Tier >= engine.TierFP16}
	limits.Device, _ = d.Mem.Budget(memory.Device)
	for _, o := range []Options{few, fewStreamed, fewQuantized} {
		request := pictureRequest()
		request.ExpandPrompt = true
		plan, err := PlanRun(c.Config, c, o, request, limits)
		if err != nil {
			t.Fatal(err)
		}
		only := plan.Only(StageExpand, limits)
		if len(only.Stages) != 1 || !only.Fits || plan.Stages[0].Stage != StageExpand {
			t.Fatalf("planned %+v", only)
		}
		d.Mem.ResetPeak()
		expand(t, d, c, o, request)
		if peak := d.Mem.Peak(memory.Device); peak != only.Device {
			t.Errorf("%+v: planned %d bytes, used %d", o, only.Device, peak)
		}
	}
}

func cancelExpansion(t *testing.T, d *engine.Device, c *Checkpoint) {
	for _, o := range []Options{few, fewStreamed} {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := New(ctx, d, c, o)
		if err != nil {
			t.Fatal(err)
		}
		r := pictureRequest()
		r.ExpandPrompt = true
		r.Progress = func(s Progress) {
			if s.Stage == StageExpand && s.Done == 3 {
				cancel()
			}
			if s.Stage != StageExpand || s.Done > 3 {
				t.Errorf("went on to %+v", s)
			}
		}
		if _, err := p.Generate(ctx, r); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		checkEmpty(t, d)
	}
}

func refusePads(t *testing.T, d *engine.Device, c *Checkpoint) {
	p, err := New(t.Context(), d, c, few)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r := pictureRequest()
	r.Prompt = "a " + tokenizer.ImagePad
	if _, err := p.ExpandPrompt(t.Context(), r); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "--expand-prompt 0") {
		t.Errorf("got %v", err)
	}
	r.Prompt, r.Image = "a", gradient(1, 300)
	r.Width, r.Height = 32, 32
	if _, err := p.ExpandPrompt(t.Context(), r); !errors.Is(err, ErrRequest) {
		t.Errorf("a line of a picture: %v", err)
	}
}

func TestExpansionKeepsToItsBudget(t *testing.T) {
	c := smallCheckpoint(t)
	limits := PlanLimits{Half: true}
	request := pictureRequest()
	request.ExpandPrompt = true
	plan, err := PlanRun(c.Config, c, fewStreamed, request, limits)
	if err != nil {
		t.Fatal(err)
	}
	budget := plan.Only(StageExpand, limits).Device
	d := enginetest.OpenPlainWith(t, engine.Options{DeviceBudget: budget})
	expand(t, d, c, fewStreamed, request)
	if peak := d.Mem.Peak(memory.Device); peak > budget {
		t.Errorf("used %d bytes of a budget of %d", peak, budget)
	}
}

func TestWhatCannotExpandSaysSo(t *testing.T) {
	dir := smallModel(t)
	c := openSmall(t, dir)
	if err := c.CheckExpansion(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "text_encoder", "model.safetensors")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lm_head.weight", "visual.merger.ln_q.weight"} {
		broken := bytes.Replace(data, []byte(name), []byte(strings.Replace(name, "w", "v", 1)), 1)
		if err := os.WriteFile(file, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		c.Config.Pipeline = configs.I2V
		if err := c.CheckExpansion(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
		c.Config.Pipeline = configs.T2V
		if err := c.CheckExpansion(); (err == nil) != (name != "lm_head.weight") {
			t.Errorf("without %s, from a prompt alone: %v", name, err)
		}
	}
}

func TestHostileSettingsBesideTheLanguageModelAreErrors(t *testing.T) {
	dir := smallModel(t)
	c := openSmall(t, dir)
	d := enginetest.OpenPlain(t)
	for name, content := range map[string]string{
		"text_encoder/generation_config.json": `{"temperature": -1}`, "tokenizer/preprocessor_config.json": `{"max_pixels": 1e30}`,
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := New(t.Context(), d, c, few)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.ExpandPrompt(t.Context(), pictureRequest()); err == nil || !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(file, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoHalfCharacterIsTold(t *testing.T) {
	c := openSmall(t, smallModel(t))
	tok, err := tokenizer.OpenQwen(c.Layout.QwenTokenizer)
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode("снег 雪 🎬!") // bytes one by one in this small vocabulary
	last := ""
	for n := range len(ids) + 1 {
		text := sofar(tok, ids[:n])
		if strings.ContainsRune(text, utf8.RuneError) || !strings.HasPrefix(text, last) {
			t.Errorf("%q after %q", text, last)
		}
		last = text
	}
	if last != "снег 雪 🎬!" {
		t.Errorf("ends with %q", last)
	}
}

// keepUntilEncoded looks at what the host keeps when stages begin.
func keepUntilEncoded(t *testing.T, d *engine.Device, c *Checkpoint) {
	p, err := New(t.Context(), d, c, fewQuantized)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	request := pictureRequest()
	request.ExpandPrompt = true
	plan, err := PlanRun(c.Config, c, fewQuantized, request, PlanLimits{})
	if err != nil {
		t.Fatal(err)
	}
	var planned int64
	for _, i := range plan.Stages[0].Items {
		if i.Where == OnHost {
			planned += i.Bytes
		}
	}
	kept := map[Stage]int64{}
	request.Progress = func(r Progress) {
		if _, known := kept[r.Stage]; !known {
			kept[r.Stage] = p.nets.qwen4Bits.Bytes()
		}
	}
	if _, err := p.Generate(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if kept[StageExpand] != 0 || kept[StageText] != planned || planned == 0 || kept[StageImage] != 0 || kept[StageDecode] != 0 {
		t.Errorf("planned are %d bytes, kept when stages begin %v", planned, kept)
	}
}
