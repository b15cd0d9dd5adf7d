package kandinsky5

import (
	"log/slog"
	"time"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/dit"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/swap"
)

// Image is an RGB picture of 8 bits a channel, row-major.
type Image = media.Image

// Clip is the frames of a video, [T, H, W, 3] of 8 bits each.
type Clip = media.Clip

// LoadImage reads a PNG, JPEG or WebP file.
func LoadImage(path string) (*Image, error) { return media.LoadImage(path) }

// Options say how a pipeline holds its networks. The zero value keeps everything on the device in mixed precision.
type Options struct {
	Precision load.Precision
	// Linear says in which numbers the linear layers of the visual blocks are computed; see load.Linear. LinearInt8 needs
	// Mixed, and pinned memory for the blocks that wait.
	Linear load.Linear
	// Attention says how the self-attention of the visual blocks is computed; see load.Attention. AttentionSage needs Mixed.
	Attention load.Attention
	// Auto lets a plan choose, from the memory there is, what is left at zero: see MemoryPlan.Choice. Without it zero means
	// what it says at each option.
	Auto bool
	// BlocksInMemory is how many visual transformer blocks are on the device at once; the others wait in host memory
	// and are swapped in. 0 keeps all.
	BlocksInMemory int
	// StreamSlots is how many of these slots the swapped blocks take turns in; 0: 2. SwapPolicy and HostTier: see
	// package swap; "" means resident, and pinned where the host has the memory for all, else mixed, else mapped.
	StreamSlots int
	SwapPolicy  swap.Policy
	HostTier    swap.HostTier
	// PinnedBlocks is how many blocks wait in pinned memory in the mixed tier; 0: as many as the host has the memory for.
	PinnedBlocks int
	// LoRA are adapters of the transformer; their effects add up. Pipeline.SetLoRA changes them later.
	LoRA []lora.Source
	// adapters says where they are added to blocks in a run that goes on with another plan; "": where it costs least.
	adapters dit.Adapters
	// HeadGroups cuts the heads of the visual attention into so many groups, a divisor of their number, of which one is on the
	// device at a time: less memory for the same results; norms are computed again for each group. 0: 1.
	HeadGroups int
	// HostWeights is the form in which visual blocks wait, cross the bus and lie in their slots; "": as they are computed with.
	HostWeights load.HostWeights
	// QwenLayersInMemory is how many layers of the text encoder are on the device at once; 0 keeps as many as fit.
	QwenLayersInMemory int
	// QuantizeQwen holds the linear layers of the text encoder in 4 bits, bitsandbytes' NF4.
	QuantizeQwen bool
	// ExpandTokens is how many tokens an expanded prompt has at most; 0: 256, as upstream has it.
	ExpandTokens int
	// Offload takes every stage's weights from the device when the stage is over, and not only when another one needs
	// the memory.
	Offload bool
	// HostMemory is how much host memory blocks may wait in, in bytes; 0: what the machine has free.
	HostMemory int64
	Log        *slog.Logger // nil: silent
}

// hostWeights are Options.HostWeights by their name, of those that give the same results the plainest: coded exponents lose nothing.
func (o Options) hostWeights() load.HostWeights {
	if o.HostWeights == "" || o.HostWeights == load.CodedWeights {
		return load.FullWeights
	}
	return o.HostWeights
}

// Request is one video to make. Zero values take what the configuration says.
type Request struct {
	Prompt string
	// NegativePrompt steers away from what it says, with guidance. nil means configs.DefaultNegativePrompt.
	NegativePrompt *string
	Image          *Image // first frame; needed by image-to-video configurations, refused by others
	// Width and Height in pixels. Image-to-video takes its size from the picture when they are 0; text-to-video's
	// default is configs.Config.DefaultSize.
	Width, Height int
	Seconds       int // of video; 0 makes one picture; configs.Config.Seconds is the configuration's own length
	Steps         int // 0: the configuration's
	// Guidance weighs the prompt against the negative prompt; 1 means no negative prompt and half the work. 0: the
	// configuration's.
	Guidance       float64
	SchedulerScale float64 // shift of the times towards noise; 0: 10 as upstream's pipelines have it
	Seed           uint64
	MagCache       bool // skip passes that change little
	// ExpandPrompt lets the language model write the prompt out first. See Checkpoint.CheckExpansion.
	ExpandPrompt bool
	// ExpandedPrompt, with ExpandPrompt, is what an earlier run has written out: it is encoded instead of Prompt, and the
	// language model is not asked again.
	ExpandedPrompt string
	// LoRA, if not nil, are the adapters of this video and those after it, as if by SetLoRA.
	LoRA *[]lora.Source
	// Prepared, if not nil, is what Pipeline.Prepare gave for this request: its prompts are not expanded and encoded again.
	Prepared *Prepared
	// Digests asks for the hashes of what the stages give, see Result. They cost a copy of the latents to the host per
	// step, which is a part of the step's last submit; hashing runs beside the next step.
	Digests bool
	// Expanding, if not nil, is called with the expanded prompt so far whenever it has grown, on the goroutine of Generate.
	Expanding func(text string)
	Progress  func(Progress) // may be nil; called on the goroutine of Generate
	// Waiting, if not nil, is told now and then what the run waits for; on a goroutine of its own, never after Generate has returned.
	Waiting func(Waiting)
	// AfterStep, if not nil, is called after every step, on the goroutine of Generate; what it decides is done, and an error
	// ends the run. The latents are copied to the host for it.
	AfterStep func(Finished) (Decision, error)
	// Preview asks for Finished.Preview.
	Preview bool
	// Like, if not nil, is how a run was computed that this one repeats: in what this one rounds otherwise is told to the log.
	Like *receipt.Rounding
	// Resume continues the run that a state is of. All else about the video is the state's.
	Resume *State
}

// Stage names a part of the work.
type Stage string

// Stages of Generate, in order.
const (
	StageLoadText Stage = "load text encoders"
	StageExpand   Stage = "expand prompt" // with Request.ExpandPrompt
	StageText     Stage = "encode text"
	StageImage    Stage = "encode image"
	StagePreview  Stage = "learn preview colours" // with Request.Preview
	StageLoad     Stage = "load transformer"
	StageDenoise  Stage = "denoise"
	StageDecode   Stage = "decode"
)

// Progress tells how far Generate is.
type Progress struct {
	Stage       Stage
	Done, Total int   // parts of the stage: steps, tiles
	DeviceBytes int64 // device memory in use
}

// Waiting tells what is done before a stage can go on. Nothing of it is what the zero value says.
type Waiting struct {
	Read, ToRead int64 // bytes of the transformer's blocks
	Compiling    int   // kernels that are still to be compiled, those of later stages too
}

// Result is a finished video.
type Result struct {
	Clip     *Clip
	Settings Settings // what was done, with the expanded prompt
	Stats    Stats
	Plan     *MemoryPlan // what was planned; with Options.Auto the run followed its choice
	// Trace is what ran when: the stages, and the blocks and their copies while denoising. Empty unless the device measures
	// time (engine.Options.Marks).
	Trace   swap.Trace
	Digests *receipt.Digests // nil unless Request.Digests
	// Rounding is what decided the clip's last bits besides settings and weights.
	Rounding receipt.Rounding
}

// Stats tell where time and memory went.
type Stats struct {
	Stages     []StageStats    `json:"stages"`
	Swap       swap.Counters   `json:"swap"`
	SwapPlan   string          `json:"swap_plan"`
	Timing     *swap.Timing    `json:"swap_timing,omitempty"` // with engine.Options.Marks: how copies and compute lay beside each other
	Verdict    *swap.Verdict   `json:"verdict,omitempty"`     // on the steps but for the first, in which kernels are compiled
	Tiles      string          `json:"decode_tiles"`          // how the autoencoder cut the clip
	HostTier   swap.HostTier   `json:"host_tier"`
	StepTimes  []time.Duration `json:"steps_ns"`
	PeakDevice int64           `json:"peak_device_bytes"`
	PeakPinned int64           `json:"peak_pinned_bytes"`
	Skipped    int             `json:"skipped_passes"`
	AfterSteps time.Duration   `json:"after_steps_ns"` // between steps, for states and for what Request.AfterStep does
	// Kernels counts pipelines that were compiled: ahead, while weights were read, and late, where they were needed.
	Kernels   engine.PipelineCounts `json:"kernels"`
	StepsMade int                   `json:"steps_made"` // by this call: fewer than the settings' where a state was continued
	// Rounding is how far weights are from the checkpoint's, with Options.Linear.
	Rounding *load.RoundingReport `json:"rounding,omitempty"`
}

// StageStats are one stage's.
type StageStats struct {
	Stage      Stage         `json:"stage"`
	Took       time.Duration `json:"ns"`
	PeakDevice int64         `json:"peak_device_bytes"`
	PeakPinned int64         `json:"peak_pinned_bytes"`
}
