package kandinsky5

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// ErrRequest is what every error about an impossible request wraps.
var ErrRequest = errors.New("impossible request")

func requestError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrRequest, fmt.Sprintf(format, args...))
}

// Settings are a Request with nothing left open: what Generate will do.
type Settings struct {
	Prompt         string           `json:"prompt"`
	ExpandPrompt   bool             `json:"expand_prompt"`
	ExpandedPrompt string           `json:"expanded_prompt,omitempty"` // what was encoded instead of Prompt, once it is written
	Trigger        string           `json:"trigger,omitempty"`         // what adapters put before it
	NegativePrompt string           `json:"negative_prompt"`
	Size           configs.Size     `json:"size"`
	Geometry       configs.Geometry `json:"geometry"`
	Steps          int              `json:"steps"`
	Guidance       float64          `json:"guidance"`
	SchedulerScale float64          `json:"scheduler_scale"`
	Seed           uint64           `json:"seed"`
	MagCache       bool             `json:"magcache"`
	LoRA           []lora.Applied   `json:"lora,omitempty"`
	image          *Image           // the first frame, in the video's size
	picture        *Image           // as it was given
	resume         *State           // what is continued
}

// expands says whether the language model has still to write the prompt out.
func (s Settings) expands() bool { return s.ExpandPrompt && s.ExpandedPrompt == "" }

// defaultSchedulerScale is the shift that upstream's video pipelines use when a call names none (kandinsky-5,
// kandinsky/t2v_pipeline.py and i2v_pipeline.py).
const defaultSchedulerScale = 10

// Resolve fills a request's open ends from the configuration and refuses what cannot be; errors wrap ErrRequest and are
// one line. No weights are needed for it.
func Resolve(config *configs.Config, r Request) (Settings, error) {
	if r.Resume != nil {
		s := r.Resume.Settings
		s.resume = r.Resume
		return s, r.Resume.check(config)
	}
	s := Settings{Prompt: r.Prompt, Steps: r.Steps, Guidance: r.Guidance, SchedulerScale: r.SchedulerScale, Seed: r.Seed, MagCache: r.MagCache, ExpandPrompt: r.ExpandPrompt, picture: r.Image}
	switch {
	case r.Prepared != nil:
		s.ExpandedPrompt = r.Prepared.expanded
	case r.ExpandPrompt:
		s.ExpandedPrompt = r.ExpandedPrompt
	}
	if strings.TrimSpace(r.Prompt) == "" {
		return s, requestError("the prompt is empty")
	}
	s.NegativePrompt = configs.DefaultNegativePrompt
	if r.NegativePrompt != nil {
		s.NegativePrompt = *r.NegativePrompt
	}
	if s.Steps == 0 {
		s.Steps = config.Model.NumSteps
	}
	if s.Guidance == 0 {
		s.Guidance = config.Model.GuidanceWeight
	}
	if s.SchedulerScale == 0 {
		s.SchedulerScale = defaultSchedulerScale
	}
	if r.Seconds < 0 || r.Seconds > 60 {
		return s, requestError("%d seconds of video: use 0 (one picture) to 20", r.Seconds)
	}
	if err := s.checkNumbers(config); err != nil {
		return s, err
	}
	return s, s.resolveSize(config, r)
}

// checkNumbers refuses what cannot be sampled with.
func (s *Settings) checkNumbers(config *configs.Config) error {
	switch {
	case s.Steps < 1 || s.Steps > 10000:
		return requestError("%d sample steps: use 1 to 10000", s.Steps)
	case !(s.Guidance >= 0 && s.Guidance <= 1000):
		return requestError("guidance weight %g: use 0 to 1000", s.Guidance)
	case !(s.SchedulerScale > 0 && s.SchedulerScale <= 1000):
		return requestError("scheduler scale %g: use a number above 0, up to 1000", s.SchedulerScale)
	}
	if s.MagCache {
		if _, err := NewMagCache(config.MagRatios, s.Steps, Guided(s.Guidance)); err != nil {
			return requestError("%v", err)
		}
	}
	return nil
}

// errNoEncoder is about a first frame and an autoencoder that can only decode.
func errNoEncoder() error { return fmt.Errorf("%w: %w", ErrRequest, weights.ErrNoEncoder) }

// hasFirstFrame says whether the clip begins with a picture.
func (s Settings) hasFirstFrame() bool {
	return s.image != nil || s.resume != nil && s.resume.FirstFrame != nil
}

// resolveSize decides the picture's size and fits the first frame to it.
func (s *Settings) resolveSize(config *configs.Config, r Request) error {
	if (r.Width == 0) != (r.Height == 0) || r.Width < 0 || r.Height < 0 {
		return requestError("size %d×%d: give both width and height in pixels", r.Width, r.Height)
	}
	s.Size = configs.Size{Width: r.Width, Height: r.Height}
	switch {
	case config.Pipeline == configs.I2V && r.Image == nil:
		return requestError("configuration %s makes a video from a picture: give one with --image", config.Name)
	case config.Pipeline != configs.I2V && r.Image != nil:
		return requestError("configuration %s takes no picture, only a prompt: leave --image out or use an i2v configuration", config.Name)
	case r.Width == 0 && r.Image != nil:
		height, width, err := media.FitSize(config.Metrics.Resolution, r.Image.Height, r.Image.Width)
		if err != nil {
			return requestError("%v", err)
		}
		s.Size = configs.Size{Width: width, Height: height}
	case r.Width == 0:
		s.Size = config.DefaultSize()
	}
	geometry, err := config.Geometry(r.Seconds, s.Size)
	if err != nil {
		return requestError("%v", err)
	}
	s.Geometry = geometry
	if r.Image != nil {
		s.image = media.ResizeBilinearAntialias(r.Image, s.Size.Height, s.Size.Width)
	}
	return nil
}
