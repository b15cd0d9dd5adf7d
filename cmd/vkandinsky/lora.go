package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/lora"
)

// loraFlags name the adapters that change the transformer.
type loraFlags struct {
	adapters []string
	own      bool          // an entry of a list of clips names adapters of its own
	checked  []lora.Source // these files were checked for another clip
}

// replace forgets the command line's adapters when an entry of a list of clips names its first.
func (l *loraFlags) replace() {
	if !l.own {
		l.adapters, l.own = nil, true
	}
}

func (l *loraFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&l.adapters, "lora", nil, "`FILE[:WEIGHT]` of a LoRA adapter (.safetensors) that changes the transformer, as strongly as its weight says: 1 by default, below 0 the other way; may be given several times, effects add up")
}

// remembered are the flags as a state remembers them: an entry's of a list of clips, where it has its own.
func (l *loraFlags) remembered() [][2]string {
	list := [][2]string{}
	for _, text := range l.adapters {
		list = append(list, [2]string{"lora", absoluteLoRA(text)})
	}
	return list
}

// sources reads the flags' texts, and checks the files against the transformer, before any work.
func (l *loraFlags) sources(config *configs.Config) ([]lora.Source, error) {
	var out []lora.Source
	for _, text := range l.adapters {
		s, err := parseLoRA(text)
		if err != nil {
			return nil, badInput(fmt.Errorf("--lora %q: %w", text, err))
		}
		out = append(out, s)
	}
	if slices.Equal(out, l.checked) {
		return out, nil
	}
	return out, badInput(kandinsky5.CheckLoRA(config, out))
}

// adapt merges the adapters into a transformer's weights as they are read. The function returned closes them, then what close
// closes, which an error does too.
func (l *loraFlags) adapt(base load.Reader, config *configs.Config, close func()) (load.Reader, func(), error) {
	sources, err := l.sources(config)
	var set *lora.Set
	if err == nil {
		set, err = kandinsky5.OpenLoRA(config, sources)
	}
	if err != nil {
		close()
		return nil, func() {}, err
	}
	return set.Reader(base), func() { _ = set.Close(); close() }, nil
}

// parseLoRA reads FILE or FILE:WEIGHT. Only a number behind the last colon is a weight: C:\x.safetensors is a file.
func parseLoRA(text string) (lora.Source, error) {
	s := lora.Source{Path: text, Weight: 1}
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		weight, err := strconv.ParseFloat(text[i+1:], 64)
		switch {
		case text[i+1:] == "":
			return s, fmt.Errorf("a weight is missing behind the colon, as in %s0.8", text)
		case err == nil && !math.IsNaN(weight) && !math.IsInf(weight, 0):
			s = lora.Source{Path: text[:i], Weight: weight}
		case err == nil || errors.Is(err, strconv.ErrRange):
			return s, fmt.Errorf("weight %s is no finite number", text[i+1:])
		}
	}
	if s.Path == "" {
		return s, fmt.Errorf("name the adapter's file, as in lora.safetensors:0.8")
	}
	return s, nil
}
