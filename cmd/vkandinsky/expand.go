package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// expands decides whether the prompt is written out: what the command line says, else what the configuration says, if the
// checkpoint can. A nil checkpoint stands for the published networks. must says that nothing else is wanted, whatever the
// configuration says.
func (r *requestFlags) expands(f *flags, config *configs.Config, c *kandinsky5.Checkpoint, must bool, log *slog.Logger) (bool, error) {
	given := f.changed("expand-prompt")
	switch {
	case given && r.expand == 0, !given && !must && config.Model.KeepPrompt:
		return false, nil
	case c == nil:
		return true, nil
	}
	err := c.CheckExpansion()
	switch {
	case err == nil:
		return true, nil
	case given || must:
		return false, badInput(fmt.Errorf("the text encoder cannot expand prompts (--expand-prompt 0 does without): %w", err))
	}
	log.Info("the prompt stays as it is: the text encoder cannot expand it", "reason", err)
	return false, nil
}

// promptStream shows an expanded prompt while it is written. On a terminal every piece appears as it comes; elsewhere
// the log gets the whole.
type promptStream struct {
	out  io.Writer // a terminal, or nil
	log  *slog.Logger
	text string
	over bool
}

// told takes the text so far, each of which begins with the one before, unless another prompt is begun.
func (s *promptStream) told(text string) {
	if s.over || !strings.HasPrefix(text, s.text) {
		s.end()
		s.text, s.over = "", false
	}
	if s.out != nil {
		fmt.Fprint(s.out, printable(text[len(s.text):]))
	}
	s.text = text
}

// end closes the text; a second call does nothing.
func (s *promptStream) end() {
	if s.over || s.text == "" {
		return
	}
	s.over = true
	if s.out != nil {
		fmt.Fprintln(s.out)
	} else {
		s.log.Info("prompt expanded", "prompt", s.text)
	}
}

// printable takes from a text what would steer a terminal: a model may write anything.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, text)
}
