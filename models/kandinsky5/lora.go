package kandinsky5

import (
	"context"
	"fmt"
	"slices"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// CheckLoRA returns why adapters cannot be applied to a configuration's transformer, without any other file: one line that
// names the adapter.
func CheckLoRA(config *configs.Config, sources []lora.Source) error {
	set, err := OpenLoRA(config, sources)
	if err != nil {
		return err
	}
	return set.Close()
}

// OpenLoRA opens adapters for a configuration's transformer, for those who run it without a Pipeline.
func OpenLoRA(config *configs.Config, sources []lora.Source) (*lora.Set, error) {
	return lora.OpenSet(sources, weights.DiTSpec(DiTConfig(config).DiTConfig))
}

// SetLoRA replaces the adapters of the transformer for the videos that follow; none takes all away. Of a transformer that is
// loaded, only what changes is read again. After an error the old adapters are still in force.
func (p *Pipeline) SetLoRA(ctx context.Context, sources ...lora.Source) error {
	if p.adapters != nil && slices.Equal(sources, p.opts.LoRA) {
		return nil
	}
	set, err := OpenLoRA(p.ckpt.Config, sources)
	if err != nil {
		return err
	}
	for _, a := range set.Applied() {
		p.log.Info("LoRA", "file", a.Path, "weight", a.Weight, "matrices", a.Matrices, "rank", span(a.Ranks), "scale", span(a.Scales), "scale from", a.ScaleBy)
	}
	if p.dit != nil {
		err := p.dit.Reload(ctx, set.Reader(p.nets.ditReader), func(name string) bool { return set.Changes(name) || p.adapters.Changes(name) })
		if err != nil {
			return oneline.Join(err, p.freeTransformer(), set.Close())
		}
	}
	err = p.closeLoRA()
	p.adapters, p.opts.LoRA = set, slices.Clone(sources)
	return err
}

// adapting calls use with the adapters that are in force for a request, those of the pipeline where it names none.
func (p *Pipeline) adapting(r Request, use func(*lora.Set) error) (err error) {
	if r.LoRA == nil || slices.Equal(*r.LoRA, p.opts.LoRA) {
		return use(p.adapters)
	}
	set, err := OpenLoRA(p.ckpt.Config, *r.LoRA)
	if err != nil {
		return err
	}
	return oneline.Join(use(set), set.Close())
}

// span prints one number for two that are equal.
func span[T int | float64](least [2]T) string {
	if least[0] == least[1] {
		return fmt.Sprintf("%.4g", float64(least[0]))
	}
	return fmt.Sprintf("%.4g to %.4g", float64(least[0]), float64(least[1]))
}

func (p *Pipeline) closeLoRA() error {
	if p.adapters == nil {
		return nil
	}
	p.prints.stop() // it reads the files
	p.prints = nil
	err := p.adapters.Close()
	p.adapters = nil
	return err
}

// transformerReader gives the transformer's tensors with the adapters merged into them.
func (p *Pipeline) transformerReader() load.Reader { return p.adapters.Reader(p.nets.ditReader) }

// adapt notes which adapters are in force.
func (s *Settings) adapt(set *lora.Set) { s.LoRA, s.Trigger = set.Applied(), set.Trigger() }

// adapt notes in the settings which adapters are in force, and says what they put before the prompt.
func (p *Pipeline) adapt(s *Settings) {
	s.adapt(p.adapters)
	if s.Trigger != "" {
		p.log.Info("the LoRA's trigger goes before the prompt", "trigger", s.Trigger)
	}
}
