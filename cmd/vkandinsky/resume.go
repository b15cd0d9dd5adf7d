package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// Notes of a state.
const (
	noteFlags   = "flags"   // the command line: JSON, a list of names and values as they were given
	noteFolder  = "folder"  // the working folder
	notePicture = "picture" // which file the picture was: JSON
)

// Flags that a continued run may have of its own: they change no number, or what they change is compared by itself, as
// the model is. All others are the state's.
var harmless = []string{
	"output-filename", "frames-dir", "contact-sheet", "stats", "json", "preview", "timeline", "trace", "log-level", "verbose", "quiet",
	"config", "checkpoint-dir", "enable-block-swap", "blocks-in-memory", "stream-slots", "swap-policy", "host-tier", "host-weights", "qwen-layers-in-memory", "head-groups", "offload",
	"device", "kernels", "vram-budget", "ram-budget", "validate", "cache-dir", "fault",
	"checkpoint-every", "keep-state", "on-interrupt", "resume", "receipt", "no-receipt", "continue",
}

// Flags that a state does not remember: they are about one process, or about many clips.
var forgotten = []string{"resume", "from", "fault", "print-prompt", "log-level", "verbose", "quiet", "prompt-file", "seeds", "draft-steps", "continue"}

// remembered lists the command line without some of its flags. Paths are made absolute, so that it may be continued from
// anywhere.
func remembered(f *flags, without []string) [][2]string {
	list := [][2]string{}
	for _, g := range f.given {
		if !slices.Contains(without, g[0]) {
			list = append(list, [2]string{g[0], absolute(f.lookup(g[0]), g[1])})
		}
	}
	return list
}

// files are the values of flags for the files of the clip, as they came to be.
func (o *generateOptions) files() map[string]string {
	out := &o.output
	return map[string]string{"output-filename": out.file, "frames-dir": out.frames, "contact-sheet": out.sheet, "timeline": out.files.picture, "trace": out.files.trace, "receipt": o.receipt.file}
}

// remember makes the notes of a run's states.
func (o *generateOptions) remember(f *flags) (map[string]string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	list, files := o.lora.remembered(), o.files()
	for _, g := range remembered(f, append([]string{"output-filename", "lora"}, forgotten...)) {
		if file, ok := files[g[0]]; ok {
			g[1] = absolute(f.lookup(g[0]), file)
		}
		list = append(list, g)
	}
	list = append(list, [2]string{"output-filename", absolute(f.lookup("output-filename"), o.output.file)})
	flagText, err := json.Marshal(list)
	notes := map[string]string{noteFlags: string(flagText), noteFolder: folder}
	if err != nil || o.request.picture == nil {
		return notes, err
	}
	text, err := json.Marshal(o.request.picture)
	notes[notePicture] = string(text)
	return notes, err
}

// pictureOf is the file that a state's run began with, for its receipt; nil where there is none.
func pictureOf(s *kandinsky5.State) *receipt.Picture {
	p := &receipt.Picture{}
	if json.Unmarshal([]byte(s.Notes[notePicture]), p) != nil || p.Path == "" {
		return nil
	}
	return p
}

// absolute makes a value that names a file independent of the working folder. What a flag names is in its usage; a value
// that may name something else does so where there is no such file.
func absolute(flag *pflag.Flag, value string) string {
	if flag.Name == "lora" {
		return absoluteLoRA(value)
	}
	what, _ := pflag.UnquoteUsage(flag)
	if value == "" || what != "FILE" && what != "FOLDER" {
		return value
	}
	if _, err := os.Stat(value); err != nil && (flag.Name == "config" || flag.Name == "cache-dir") {
		return value
	}
	path, err := filepath.Abs(value)
	if err != nil {
		return value
	}
	return path
}

// absoluteLoRA makes the file of FILE:WEIGHT independent of the working folder.
func absoluteLoRA(value string) string {
	l, err := parseLoRA(value)
	if err != nil {
		return value
	}
	path, err := filepath.Abs(l.Path)
	if err != nil {
		return value
	}
	return receipt.LoRA{File: path, Weight: l.Weight}.Flag()
}

// restore reads the state that --resume names and sets the flags of its run, but for those that the command line has. It
// refuses flags that would make another video.
func (k *keepFlags) restore(f *flags) error {
	if k.resume == "" {
		return nil
	}
	state, err := kandinsky5.ReadState(k.resume)
	if err != nil {
		return badInput(err)
	}
	var list [][2]string
	if err := json.Unmarshal([]byte(state.Notes[noteFlags]), &list); err != nil {
		return badInputf("%s: %w: it does not say how the run was started", k.resume, kandinsky5.ErrState)
	}
	saved := savedFlags{k.resume, kandinsky5.ErrState, list, forgotten}
	if err := saved.restore(f, effective(state.Settings)); err != nil {
		return err
	}
	k.state = state
	return restoreFolder(f, state.Notes[noteFolder])
}

// savedFlags are the command line that a file says a run was started with.
type savedFlags struct {
	file   string
	broken error // what errors about the file wrap
	list   [][2]string
	never  []string // flags that the file must not have
}

// restore sets the flags, but for those that the command line has. It refuses flags that would make another video;
// effective has values of flags that the run left to their defaults.
func (s savedFlags) restore(f *flags, effective map[string]string) error {
	saved := map[string][]string{}
	for _, g := range s.list {
		if f.lookup(g[0]) == nil || slices.Contains(s.never, g[0]) {
			return badInputf("%s: %w: it has a flag --%.40s, which this program does not take from such a file", s.file, s.broken, g[0])
		}
		saved[g[0]] = append(saved[g[0]], g[1])
	}
	if err := contradictions(f, saved, effective); err != nil {
		return err
	}
	given := f.given
	for _, g := range s.list {
		if overruled(given, g[0]) {
			continue
		}
		if err := f.set(g[0], g[1]); err != nil {
			return badInputf("%s: %w: --%s: %w", s.file, s.broken, g[0], err)
		}
	}
	return nil
}

// overruled says whether the command line has a flag, or one that says as much.
func overruled(given [][2]string, name string) bool {
	_, here := valuesOf(given, name)
	_, blocks := valuesOf(given, "blocks-in-memory")
	_, enable := valuesOf(given, "enable-block-swap")
	return here || blocks && name == "enable-block-swap" || enable && name == "blocks-in-memory"
}

// restoreFolder looks for checkpoints where the run was started, if no other folder is named.
func restoreFolder(f *flags, folder string) error {
	here, err := os.Getwd()
	if err != nil || folder == here || folder == "" || f.changed("checkpoint-dir") {
		return err
	}
	return f.set("checkpoint-dir", folder)
}

// contradictions compares the flags that the command line has with those of the state.
func contradictions(f *flags, saved map[string][]string, effective map[string]string) error {
	for _, g := range f.given {
		name := g[0]
		if slices.Contains(harmless, name) {
			continue
		}
		flag := f.lookup(name)
		was, ok := saved[name]
		if !ok {
			value, known := effective[name]
			if !known {
				value = flag.DefValue
			}
			was = []string{value}
		}
		now, _ := valuesOf(f.given, name)
		if now, was = counting(flag, now), counting(flag, was); !same(flag, now, was) {
			return badInputf("--%s %s contradicts the state, which was made with %s: leave the flag out, or begin a new run", name, shown(now), shown(was))
		}
	}
	return nil
}

// effective are the state's settings as values of flags, for flags that its run left to their defaults.
func effective(s kandinsky5.Settings) map[string]string {
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	expand := "0"
	if s.ExpandPrompt {
		expand = "1"
	}
	return map[string]string{
		"prompt": s.Prompt, "negative-prompt": s.NegativePrompt, "width": strconv.Itoa(s.Size.Width), "height": strconv.Itoa(s.Size.Height),
		"video-duration": strconv.Itoa(s.Geometry.Seconds), "sample-steps": strconv.Itoa(s.Steps), "guidance-weight": number(s.Guidance),
		"scheduler-scale": number(s.SchedulerScale), "seed": strconv.FormatUint(s.Seed, 10), "magcache": strconv.FormatBool(s.MagCache), "expand-prompt": expand,
	}
}

// same compares values as the flag understands them: 5 and 5.0 are one number. It leaves the flag at the first of the two.
func same(flag *pflag.Flag, now, was []string) bool {
	for _, list := range [][]string{now, was} {
		for k := range list {
			list[k] = absolute(flag, list[k])
		}
	}
	if slices.Equal(now, was) {
		return true
	}
	if _, list := flag.Value.(pflag.SliceValue); list || flag.Value.Set(was[0]) != nil {
		return false
	}
	text := flag.Value.String()
	return flag.Value.Set(now[0]) == nil && flag.Value.String() == text
}

// counting are those of the values given for a flag that count: the last one, unless it takes many.
func counting(flag *pflag.Flag, values []string) []string {
	if _, list := flag.Value.(pflag.SliceValue); list {
		return values
	}
	return values[len(values)-1:]
}

// valuesOf returns the values that a list of flags has for a name.
func valuesOf(list [][2]string, name string) (values []string, ok bool) {
	for _, g := range list {
		if g[0] == name {
			values = append(values, g[1])
		}
	}
	return values, len(values) > 0
}

// shown is a flag's values in an error: short, in one line.
func shown(values []string) string {
	text := strings.Join(values, ", ")
	if text == "" {
		return "none"
	}
	return fmt.Sprintf("%.60s", oneLine(text))
}

// shellWord quotes a path for the shell that a user is likely to paste it into.
func shellWord(path string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r > 127 || strings.ContainsRune("/.,_-+=:@%", r) || r == '\\' && runtime.GOOS == "windows"
	}
	switch {
	case strings.IndexFunc(path, func(r rune) bool { return !plain(r) }) < 0:
		return path
	case runtime.GOOS == "windows":
		return `"` + path + `"`
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
