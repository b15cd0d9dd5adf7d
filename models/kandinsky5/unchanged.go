package kandinsky5

import (
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// checkFiles returns an error for weights that were written to since they were opened: what is computed from then on would be of
// two models.
func (p *Pipeline) checkFiles() error {
	var files []*weights.File
	for _, c := range []*weights.Checkpoint{p.nets.dit, p.nets.vae, p.nets.qwen, p.nets.clip} {
		if c != nil {
			files = append(files, c.Files()...)
		}
	}
	if p.adapters != nil {
		files = append(files, p.adapters.Files()...)
	}
	for _, f := range files {
		if err := f.CheckUnchanged(); err != nil {
			return err
		}
	}
	return nil
}
