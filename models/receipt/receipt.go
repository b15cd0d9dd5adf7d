package receipt

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Format names the kind of file, Version the meaning of its fields.
const (
	Format  = "vkandinsky receipt"
	Version = 1
)

// Receipt is what is known about one clip.
type Receipt struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Program string    `json:"program"` // version, commit, Go release and platform
	Created time.Time `json:"created"`

	Settings Settings  `json:"settings"`
	Memory   Memory    `json:"memory"`
	Picture  *Picture  `json:"picture,omitempty"`
	Weights  []Weights `json:"weights"`
	Device   Device    `json:"device"`
	Rounding Rounding  `json:"rounding"`
	Plan     Plan      `json:"plan"`
	Timings  Timings   `json:"timings"`
	Digests  Digests   `json:"digests"`
	Output   Output    `json:"output"`
}

// Settings decide what is computed. Their names in JSON are those of the command line's flags, but for those that it has
// none for: the model's, the expanded prompt and whether the size was given.
type Settings struct {
	Config         string  `json:"config"` // as it was named; empty with a Diffusers folder
	CheckpointDir  string  `json:"checkpoint_dir"`
	ConfigSHA256   string  `json:"config_sha256"` // of the configuration without its paths
	Prompt         string  `json:"prompt"`
	ExpandPrompt   bool    `json:"expand_prompt"`
	ExpandedPrompt string  `json:"expanded_prompt,omitempty"`
	NegativePrompt string  `json:"negative_prompt"`
	Width          int     `json:"width"` // in pixels
	Height         int     `json:"height"`
	SizeGiven      bool    `json:"size_given"`     // and not what follows from the picture or the model
	VideoDuration  int     `json:"video_duration"` // in seconds; 0 for one picture
	SampleSteps    int     `json:"sample_steps"`
	GuidanceWeight float64 `json:"guidance_weight"`
	SchedulerScale float64 `json:"scheduler_scale"`
	Seed           uint64  `json:"seed"`
	MagCache       bool    `json:"magcache"`
	Precision      string  `json:"precision"`
	Linear         string  `json:"linear"`                     // numbers of the blocks' linear layers
	Attention      string  `json:"attention_engine,omitempty"` // of the visual blocks' self-attention; empty: the program's own
	HostWeights    string  `json:"host_weights"`               // and of the blocks as they wait
	QuantizeQwen   bool    `json:"qwen_quantization"`          // the text encoder in 4 bits
	LoRA           []LoRA  `json:"lora,omitempty"`
	Kernels        string  `json:"kernels"` // the tier that was asked for, or auto
}

// LoRA is an adapter of the transformer. Its file is among the weights.
type LoRA struct {
	File   string     `json:"file"`   // as it was named
	Weight float64    `json:"weight"` // how strongly it acts
	Scales [2]float64 `json:"scales"` // of its matrices besides, the smallest and the largest
}

// Flag is the adapter as the command line names it.
func (l LoRA) Flag() string { return l.File + ":" + number(l.Weight) }

// adapters lists the files of adapters, and what they act with.
func (s Settings) adapters() (files, strengths string) {
	var f, g []string
	for _, l := range s.LoRA {
		f = append(f, l.File)
		g = append(g, fmt.Sprintf("%s of %s to %s", number(l.Weight), number(l.Scales[0]), number(l.Scales[1])))
	}
	return strings.Join(f, ", "), strings.Join(g, ", ")
}

// Memory is how the run was held in memory, in the names of the command line's flags; no bit depends on it but through
// Plan.Tiles. Bytes are 0 where nothing was said.
type Memory struct {
	EnableBlockSwap    bool   `json:"enable_block_swap"`
	BlocksInMemory     int    `json:"blocks_in_memory"` // 0 where it was left to the plan
	StreamSlots        int    `json:"stream_slots"`
	SwapPolicy         string `json:"swap_policy"`
	HostTier           string `json:"host_tier"`
	HeadGroups         int    `json:"head_groups"`
	QwenLayersInMemory int    `json:"qwen_layers_in_memory"`
	Offload            bool   `json:"offload"`
	VRAMBudget         int64  `json:"vram_budget"`
	RAMBudget          int64  `json:"ram_budget"`
}

// Picture is the file that the clip starts from.
type Picture struct {
	Path   string `json:"path"` // as it was given
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // of the whole file
}

// Weights is one file of weights.
type Weights struct {
	Network string `json:"network"`
	File    string `json:"file"` // without its folder
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"fingerprint"` // see Fingerprint
}

// Device is what computed, and with which kernels.
type Device struct {
	Name    string            `json:"name"`
	Driver  string            `json:"driver"`
	API     string            `json:"api"`
	Kernels string            `json:"kernels"`  // the tier
	Shaders map[string]string `json:"variants"` // kernel variants that the program had used by then, and hashes of their code
	Tuned   map[string]string `json:"tuned,omitempty"`
}

// Plan is how the work was cut and what it was expected to take at its peak.
type Plan struct {
	Blocks      string `json:"blocks"`
	HostTier    string `json:"host_tier"`
	Tiles       string `json:"decode_tiles"` // larger ones give slightly other pictures
	DeviceBytes int64  `json:"device_bytes"`
	PinnedBytes int64  `json:"pinned_bytes"`
}

// Timings are in nanoseconds.
type Timings struct {
	Stages []StageTime     `json:"stages"`
	Steps  []time.Duration `json:"steps_ns"`
}

// StageTime is a stage's time and the device memory at its peak.
type StageTime struct {
	Stage      string        `json:"stage"`
	Took       time.Duration `json:"ns"`
	PeakDevice int64         `json:"peak_device_bytes"`
}

// Digests are the hashes of what the stages gave. All tensors are hashed as fp32, little-endian, row-major.
type Digests struct {
	Text       []Text   `json:"text"`                  // of the prompt, and with guidance of the negative prompt
	FirstFrame string   `json:"first_frame,omitempty"` // the encoded picture, [1, H, W, C]
	Noise      string   `json:"noise"`                 // the latent before the first step, [T, H, W, C]
	Latents    []string `json:"latents"`               // after each step; "" where it is not known
	Final      string   `json:"final_latent"`          // what is decoded
	Frames     string   `json:"frames"`                // [T, H, W, 3] of 8 bits each
}

// Text is the embedding of a prompt.
type Text struct {
	Rows   string `json:"rows"`   // of the text encoder, [tokens, D]
	Pooled string `json:"pooled"` // of CLIP, [D]
}

// Output is the file that was written.
type Output struct {
	File   string `json:"file"` // without its folder
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// Pair is a named value as text.
type Pair struct{ Name, Value string }

// Pairs lists the settings under the names of their flags, in the order in which people would ask for them.
func (s Settings) Pairs() []Pair {
	files, strengths := s.adapters()
	return []Pair{
		{"prompt", s.Prompt}, {"expand_prompt", oneOrZero(s.ExpandPrompt)}, {"expanded_prompt", s.ExpandedPrompt}, {"negative_prompt", s.NegativePrompt},
		{"width", strconv.Itoa(s.Width)}, {"height", strconv.Itoa(s.Height)}, {"video_duration", strconv.Itoa(s.VideoDuration)},
		{"sample_steps", strconv.Itoa(s.SampleSteps)}, {"guidance_weight", number(s.GuidanceWeight)}, {"scheduler_scale", number(s.SchedulerScale)},
		{"seed", strconv.FormatUint(s.Seed, 10)}, {"magcache", strconv.FormatBool(s.MagCache)}, {"precision", s.Precision},
		{"linear", s.Linear}, {"attention_engine", s.Attention}, {"host_weights", s.HostWeights}, {"qwen_quantization", strconv.FormatBool(s.QuantizeQwen)},
		{"lora", files}, {"lora_weights", strengths}, {"kernels", s.Kernels},
		{"config", s.Config}, {"checkpoint_dir", s.CheckpointDir}, {"config_sha256", s.ConfigSHA256},
	}
}

// Pairs lists how memory was held under the names of the flags.
func (m Memory) Pairs() []Pair {
	return []Pair{
		{"enable_block_swap", strconv.FormatBool(m.EnableBlockSwap)}, {"blocks_in_memory", strconv.Itoa(m.BlocksInMemory)},
		{"stream_slots", strconv.Itoa(m.StreamSlots)}, {"swap_policy", m.SwapPolicy}, {"host_tier", m.HostTier}, {"head_groups", strconv.Itoa(m.HeadGroups)},
		{"qwen_layers_in_memory", strconv.Itoa(m.QwenLayersInMemory)}, {"offload", strconv.FormatBool(m.Offload)},
		{"vram_budget", strconv.FormatInt(m.VRAMBudget, 10)}, {"ram_budget", strconv.FormatInt(m.RAMBudget, 10)},
	}
}

func oneOrZero(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// number writes the shortest text that reads back to the same float64.
func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// Write writes the receipt as JSON for people and programs. Format and Version are filled in.
func (r *Receipt) Write(w io.Writer) error {
	r.Format, r.Version = Format, Version
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
