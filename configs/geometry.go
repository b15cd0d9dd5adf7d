package configs

import "fmt"

// FramesPerSecond is the rate of every published video model.
const FramesPerSecond = 24

// Factors between pixels, latents and tokens: the VAE divides frames by 4 and sides by 8, a token covers 2×2 latents.
const (
	TemporalStride = 4
	SpatialStride  = 8
	PixelsPerToken = 16
)

// maxPositions is the length of each visual axis' position table (kandinsky-5, kandinsky/models/nn.py).
const maxPositions = 128

// maxSeconds is the longest clip that the frames' positions reach.
const maxSeconds = (maxPositions - 1) * TemporalStride / FramesPerSecond

// publishedSeconds is the clip length of upstream's command line (kandinsky-5, test.py).
const publishedSeconds = 5

// nablaSide is the pixel size that block-sparse attention divides a picture into: blocks of 8×8 tokens.
const nablaSide = 8 * PixelsPerToken

// Size is a picture size in pixels.
type Size struct{ Height, Width int }

// String returns "HEIGHTxWIDTH".
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Height, s.Width) }

// Geometry is every count that follows from a clip's length and size.
type Geometry struct {
	Seconds       int
	Size          Size
	Frames        int // video frames
	LatentFrames  int // T
	LatentHeight  int // rows of latents
	LatentWidth   int // columns of latents
	TokenRows     int // rows of tokens per frame
	TokenColumns  int // columns of tokens per frame
	Tokens        int // visual tokens of the transformer
	NablaBlocks   int // blocks of 64 tokens per query or key axis; 0 with full attention
	LatentNumbers int // numbers in the latent tensor [T, H, W, channels]
}

// LatentFrames returns the number of latent frames of a clip: ⌊24·seconds/4⌋ + 1, and one for a picture (0 seconds).
func LatentFrames(seconds int) int {
	return seconds*FramesPerSecond/TemporalStride + 1
}

// VideoFrames returns how many frames the decoder makes of T latent frames: 4·(T−1) + 1.
func VideoFrames(latentFrames int) int {
	return TemporalStride*(latentFrames-1) + 1
}

// Seconds returns how long a clip is when nobody asks for another length: what the configuration says, else 5 as in
// upstream's command line.
func (c *Config) Seconds() int {
	if c.Metrics.VideoDuration > 0 {
		return c.Metrics.VideoDuration
	}
	return publishedSeconds
}

// DefaultSize returns the size of a video that nothing else gives a size to: 768×512 at resolution 512, 1024×1024 at
// 1024, and the square of a small model's resolution.
func (c *Config) DefaultSize() Size {
	if r := c.Metrics.Resolution; r != 512 {
		return Size{r, r}
	}
	return Size{Height: 512, Width: 768}
}

// AllowedSizes lists the picture sizes text to video takes at this resolution (kandinsky-5,
// kandinsky/t2v_pipeline.py): for small models the square alone. Image to video takes its size from the picture instead.
func (c *Config) AllowedSizes() []Size {
	switch c.Metrics.Resolution {
	case 512:
		return []Size{{512, 512}, {512, 768}, {768, 512}}
	case 1024:
		return []Size{{1024, 1024}, {640, 1408}, {1408, 640}, {768, 1280}, {1280, 768}, {896, 1152}, {1152, 896}}
	}
	return []Size{c.DefaultSize()}
}

// CheckSize returns an error when text to video was not published for the size.
func (c *Config) CheckSize(s Size) error {
	allowed := c.AllowedSizes()
	for _, a := range allowed {
		if s == a {
			return nil
		}
	}
	return fmt.Errorf("size %v (height x width) is not among those of resolution %d: %v", s, c.Metrics.Resolution, allowed)
}

// Geometry computes the counts of a clip and refuses what the model has no positions for: a side that is not a
// multiple of 16 (128 with block-sparse attention) or above 2048 pixels, a clip above 128 latent frames. It does
// not ask whether the size was published; CheckSize does.
func (c *Config) Geometry(seconds int, s Size) (Geometry, error) {
	if seconds < 0 || seconds > maxSeconds {
		return Geometry{}, fmt.Errorf("video duration must be from 0 (one picture) to %d seconds, got %d", maxSeconds, seconds)
	}
	step, why := PixelsPerToken, ""
	if c.Model.Attention.Nabla {
		step, why = nablaSide, " with nabla attention"
	}
	if longest := maxPositions * PixelsPerToken; s.Height < step || s.Width < step || s.Height%step != 0 || s.Width%step != 0 || s.Height > longest || s.Width > longest {
		return Geometry{}, fmt.Errorf("size %v (height x width): both must be multiples of %d from %d to %d%s", s, step, step, longest, why)
	}
	g := Geometry{
		Seconds: seconds, Size: s, LatentFrames: LatentFrames(seconds),
		LatentHeight: s.Height / SpatialStride, LatentWidth: s.Width / SpatialStride,
		TokenRows: s.Height / PixelsPerToken, TokenColumns: s.Width / PixelsPerToken,
	}
	g.Frames = VideoFrames(g.LatentFrames)
	g.Tokens = g.LatentFrames * g.TokenRows * g.TokenColumns
	if c.Model.Attention.Nabla {
		g.NablaBlocks = g.Tokens / 64
	}
	g.LatentNumbers = g.LatentFrames * g.LatentHeight * g.LatentWidth * c.Model.DiT.OutVisualDim
	return g, nil
}
