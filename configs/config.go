package configs

// DefaultNegativePrompt is what the unconditional pass of the video pipelines sees when the user gives no negative
// prompt (kandinsky-5, kandinsky/t2v_pipeline.py and i2v_pipeline.py).
const DefaultNegativePrompt = "Static, 2D cartoon, cartoon, 2d animation, paintings, images, worst quality, low quality, ugly, deformed, walking backwards"

// Pipeline is the task a configuration is meant for.
type Pipeline string

// The pipelines. Image pipelines exist upstream and are refused here.
const (
	T2V Pipeline = "t2v" // text to video
	I2V Pipeline = "i2v" // image and text to video
)

// Config is one configuration file.
type Config struct {
	Name      string   // base name of the file without its extension; for a Diffusers folder the folder's name
	File      string   // the file it was read from; "NAME.yaml (built in)" for an embedded preset
	Dir       string   // folder that relative checkpoint paths may refer to; empty for an embedded preset
	Pipeline  Pipeline // chosen by the file's name, see PipelineOf
	Metrics   Metrics
	Model     Model
	MagRatios []float64 // magnitude ratios for MagCache, conditional and unconditional in turn from the second step on; nil when the file has none
	BlockSwap BlockSwap
}

// Metrics is the section that says for which picture sizes the model was trained.
type Metrics struct {
	Resolution     int        // 512 or 1024; for small models a multiple of 16 below 512
	ScaleFactor    [3]float64 // divisors (frames, rows, columns) of the rotary angles
	SchedulerScale float64    // timestep shift the authors suggest, 0 when not said; upstream never reads it
	VideoDuration  int        // seconds of a clip when nobody asks for another length; 0 when not said, see Config.Seconds
}

// Model is the section that describes the networks.
type Model struct {
	CheckpointPath string  // diffusion transformer: a safetensors file or a folder
	NumSteps       int     // default number of sampling steps, also MagCache's length
	GuidanceWeight float64 // default guidance weight; exactly 1 means one pass per step
	DiT            DiTParams
	Attention      Attention
	VAE            VAE
	Qwen           TextEmbedder
	CLIP           TextEmbedder
	// KeepPrompt says that this model's prompts are not to be written out by its language model, unless asked for
	// (expand_prompt: false; upstream's files lack the key, and its default is to expand).
	KeepPrompt bool
}

// DiTParams is the shape of the diffusion transformer.
type DiTParams struct {
	InVisualDim     int    // latent channels in
	OutVisualDim    int    // latent channels out
	InTextDim       int    // width of the text sequence (Qwen)
	InTextDim2      int    // width of the pooled text vector (CLIP)
	TimeDim         int    // width of the conditioning vector
	PatchSize       [3]int // frames, rows, columns; always 1, 2, 2
	ModelDim        int
	FFDim           int
	NumTextBlocks   int
	NumVisualBlocks int
	AxesDims        [3]int // rotary channels per axis (frames, rows, columns)
	VisualCond      bool   // the input carries conditioning channels and a mask beside the latents
	AttentionEngine string // which PyTorch attention upstream would call; accepted, without effect here
}

// Attention says how the visual blocks' self-attention is computed.
type Attention struct {
	Nabla      bool    // block-sparse attention; false means full attention
	P          float64 // share of the attention mass a query block keeps, 0…1
	WT, WH, WW int     // window that is always kept, in frames and in blocks of 8×8 tokens
}

// VAE is the latent codec.
type VAE struct {
	Name           string // "hunyuan"
	CheckpointPath string
}

// TextEmbedder is one of the two text encoders.
type TextEmbedder struct {
	CheckpointPath string // folder with weights
	TokenizerPath  string // folder with the tokenizer; equal to CheckpointPath unless the file names another
	MaxLength      int    // text tokens
}

// BlockSwap asks for transformer blocks to be kept in host memory. The command line overrides it.
type BlockSwap struct {
	Enabled        bool
	BlocksInMemory int // visual blocks on the device at a time; 0 when not said
}
