package receipt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
)

// Bounds of what a receipt may hold. Real ones have some ten KiB; a step has about a hundred bytes.
const (
	maxFile   = 8 << 20
	maxText   = 1 << 20 // bytes of a prompt
	maxPath   = 1 << 15
	maxSteps  = 10000
	maxSide   = 1 << 16 // pixels
	maxList   = 1 << 14
	maxNumber = 1000 // of guidance and scheduler scale
)

// Read reads a receipt file. An error is one line and names the file.
func Read(path string) (*Receipt, error) {
	if info, err := os.Stat(path); err != nil { // before it is opened: opening a pipe may take forever
		return nil, fmt.Errorf("receipt: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("receipt %s: is not a file: name the .json beside a clip", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	r, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("receipt %s: %w", path, err)
	}
	return r, nil
}

// Parse reads a receipt and refuses what no run can have written. Fields that are not known are passed over: a program may
// add some without another version. An error is one line.
func Parse(data []byte) (*Receipt, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("more than %d MiB are no receipt", maxFile>>20)
	}
	if !utf8.Valid(data) {
		return nil, errors.New("is not UTF-8 text: no receipt")
	}
	var head struct {
		Format  any          `json:"format"`
		Version *json.Number `json:"version"`
	}
	if err := decode(data, &head); err != nil {
		return nil, err
	}
	switch {
	case head.Format != Format:
		return nil, fmt.Errorf("is no receipt: its format is not %q", Format)
	case head.Version == nil:
		return nil, errors.New("says no version")
	case head.Version.String() != fmt.Sprint(Version):
		return nil, fmt.Errorf("has version %.20s, this program knows version %d: use the program that wrote it, or a newer one", *head.Version, Version)
	}
	r := &Receipt{}
	if err := decode(data, r); err != nil {
		return nil, err
	}
	return r, r.check()
}

// decode reads exactly one JSON value. What encoding/json says of a mistake is put so that users understand it.
func decode(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	err := d.Decode(v)
	if err == nil {
		if _, err := d.Token(); err != io.EOF {
			return errors.New("something follows the end of the JSON: damaged, or no receipt")
		}
		return nil
	}
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("is no receipt: a JSON object is needed, this is a %.40s", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("%s cannot be a %.60s", kind.Field, kind.Value)
	case errors.Is(err, io.EOF):
		return errors.New("is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("ends in the middle: damaged or cut off")
	case errors.As(err, &syntax):
		return fmt.Errorf("is not JSON: %s, at byte %d", oneline.Text(syntax.Error()), syntax.Offset)
	}
	return errors.New(oneline.Text(err.Error()))
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *checker) between(name string, v, low, high int64) {
	if v < low || v > high {
		c.fail("%s is %d: it must be from %d to %d", name, v, low, high)
	}
}

func (c *checker) text(name, s string, limit int) {
	if len(s) > limit {
		c.fail("%s has %d bytes, which is too much", name, len(s))
	}
	if strings.ContainsRune(s, 0) {
		c.fail("%s has a zero byte", name)
	}
}

// name checks a path or a name, which is printed as it is.
func (c *checker) name(name, s string) {
	c.text(name, s, maxPath)
	if strings.ContainsFunc(s, unicode.IsControl) {
		c.fail("%s has control characters", name)
	}
}

func (c *checker) list(name string, n int) { c.between("the length of "+name, int64(n), 0, maxList) }

// digest takes the empty text where a value need not be known.
func (c *checker) digest(name, s string, optional bool) {
	if s == "" && optional {
		return
	}
	if len(s) != 64 || strings.Trim(s, "0123456789abcdef") != "" {
		c.fail("%s is no SHA-256 in lower-case hexadecimal", name)
	}
}

func (r *Receipt) check() error {
	c := &checker{}
	r.Settings.check(c)
	r.checkMachine(c)
	r.Digests.check(c, r.Settings.SampleSteps)
	c.name("output.file", r.Output.File)
	c.between("output.bytes", r.Output.Bytes, 0, 1<<50)
	c.digest("output.sha256", r.Output.SHA256, true)
	return c.err
}

func (s *Settings) check(c *checker) {
	c.text("settings.prompt", s.Prompt, maxText)
	if strings.TrimSpace(s.Prompt) == "" {
		c.fail("settings.prompt is empty")
	}
	c.text("settings.expanded_prompt", s.ExpandedPrompt, maxText)
	c.text("settings.negative_prompt", s.NegativePrompt, maxText)
	for _, t := range []Pair{{"config", s.Config}, {"checkpoint_dir", s.CheckpointDir}, {"precision", s.Precision}, {"linear", s.Linear}, {"attention_engine", s.Attention}, {"host_weights", s.HostWeights}, {"kernels", s.Kernels}} {
		c.name("settings."+t.Name, t.Value)
	}
	c.list("settings.lora", len(s.LoRA))
	for _, l := range s.LoRA {
		c.name("settings.lora.file", l.File)
		if l.File == "" {
			c.fail("settings.lora.file is empty")
		}
	}
	c.digest("settings.config_sha256", s.ConfigSHA256, false)
	c.between("settings.width", int64(s.Width), 1, maxSide)
	c.between("settings.height", int64(s.Height), 1, maxSide)
	c.between("settings.video_duration", int64(s.VideoDuration), 0, 3600)
	c.between("settings.sample_steps", int64(s.SampleSteps), 1, maxSteps)
	for _, n := range []struct {
		name  string
		value float64
	}{{"guidance_weight", s.GuidanceWeight}, {"scheduler_scale", s.SchedulerScale}} {
		if !(n.value >= 0 && n.value <= maxNumber) {
			c.fail("settings.%s is %g: it must be from 0 to %d", n.name, n.value, maxNumber)
		}
	}
}

// checkMachine checks what tells of files and devices.
func (r *Receipt) checkMachine(c *checker) {
	m := &r.Memory
	c.between("memory.blocks_in_memory", int64(m.BlocksInMemory), 0, 4096)
	c.between("memory.stream_slots", int64(m.StreamSlots), 0, 4096)
	c.between("memory.head_groups", int64(m.HeadGroups), 0, 4096)
	c.between("memory.qwen_layers_in_memory", int64(m.QwenLayersInMemory), 0, 4096)
	c.between("memory.vram_budget", m.VRAMBudget, 0, 1<<50)
	c.between("memory.ram_budget", m.RAMBudget, 0, 1<<50)
	c.name("memory.swap_policy", m.SwapPolicy)
	c.name("memory.host_tier", m.HostTier)
	if p := r.Picture; p != nil {
		c.name("picture.path", p.Path)
		if p.Path == "" {
			c.fail("picture.path is empty")
		}
		c.between("picture.bytes", p.Bytes, 0, 1<<50)
		c.digest("picture.sha256", p.SHA256, false)
	}
	c.list("weights", len(r.Weights))
	for _, w := range r.Weights {
		c.name("weights.network", w.Network)
		c.name("weights.file", w.File)
		c.between("weights.bytes", w.Bytes, 0, 1<<50)
		c.digest("weights.fingerprint", w.SHA256, false)
	}
	for _, t := range []Pair{{"name", r.Device.Name}, {"driver", r.Device.Driver}, {"api", r.Device.API}, {"kernels", r.Device.Kernels}} {
		c.name("device."+t.Name, t.Value)
	}
	if err := r.Rounding.Check(); err != nil {
		c.fail("%w", err)
	}
	c.list("device.variants", len(r.Device.Shaders))
	c.list("device.tuned", len(r.Device.Tuned))
	c.name("plan.decode_tiles", r.Plan.Tiles)
	c.list("timings.stages", len(r.Timings.Stages))
	c.list("timings.steps_ns", len(r.Timings.Steps))
}

func (d *Digests) check(c *checker, steps int) {
	if n := len(d.Text); n > 2 {
		c.fail("digests.text has %d entries: a run encodes one or two prompts", n)
	}
	for _, t := range d.Text {
		c.digest("digests.text.rows", t.Rows, true)
		c.digest("digests.text.pooled", t.Pooled, true)
	}
	c.digest("digests.first_frame", d.FirstFrame, true)
	c.digest("digests.noise", d.Noise, true)
	if n := len(d.Latents); n != 0 && n != steps {
		c.fail("digests.latents has %d entries for %d steps", n, steps)
	}
	for k, s := range d.Latents {
		c.digest(fmt.Sprintf("digests.latents of step %d", k+1), s, true)
	}
	c.digest("digests.final_latent", d.Final, true)
	c.digest("digests.frames", d.Frames, false)
}
