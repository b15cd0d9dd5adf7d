// Package promptfile reads lists of clips to make: a text file with a prompt on every line, or a yaml list whose entries
// say more. It knows names and types of what an entry may say, and leaves to others what it means.
package promptfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Limits of what Read takes.
const (
	maxFile = 16 << 20 // bytes
	maxJobs = 10000
)

// Job is one clip to make.
type Job struct {
	Line   int // where it begins in the file, from 1
	Values []Value
}

// Value is something an entry says: the name of a setting, with underscores, and its value as text. A list has a Value for each
// of its texts; an empty one has one, "".
type Value struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Check refuses values, from another place than a prompt file, that no entry has: names that are not known, or are there
// twice without being those of a list.
func Check(values []Value) error {
	known, seen := kinds(), map[string]bool{}
	for _, v := range values {
		if known[v.Name] == "" || seen[v.Name] && known[v.Name] != texts {
			return fmt.Errorf("setting %.60q is unknown, or there twice", v.Name)
		}
		seen[v.Name] = true
	}
	return nil
}

// Get returns a value, "" where the job does not say it.
func (j Job) Get(name string) string {
	for _, v := range j.Values {
		if v.Name == name {
			return v.Text
		}
	}
	return ""
}

// kind is how a value must be written in yaml.
type kind string

const (
	text    kind = "text"
	whole   kind = "a whole number"
	number  kind = "a number"
	boolean kind = "true or false"
	texts   kind = "text or a list of texts"
)

// kinds are the settings that an entry may have.
func kinds() map[string]kind {
	return map[string]kind{
		"prompt": text, "image": text, "negative_prompt": text, "output": text, "seed": whole, "width": whole, "height": whole, "video_duration": whole,
		"sample_steps": whole, "guidance_weight": number, "scheduler_scale": number, "magcache": boolean, "expand_prompt": boolean, "lora": texts,
	}
}

// IsYAML says whether a path's name is that of a yaml file.
func IsYAML(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	return ext == ".yaml" || ext == ".yml"
}

// Read reads a file: yaml by its name (.yaml, .yml), else a prompt on every line. An error is one line and names the file
// and, where there is one, the line.
func Read(path string) ([]Job, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("prompt file: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("prompt file: %w", err)
	} else if info.IsDir() {
		return nil, fmt.Errorf("prompt file %s: is a folder", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("prompt file: %w", err)
	}
	return Parse(path, data)
}

// Parse is Read on bytes in memory.
func Parse(path string, data []byte) ([]Job, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("prompt file %s: larger than %d MiB", path, maxFile>>20)
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // some editors begin files so
	parse := parseLines
	if IsYAML(path) {
		parse = parseYAML
	}
	jobs, line, err := parse(data)
	switch {
	case err == nil && len(jobs) == 0:
		return nil, fmt.Errorf("prompt file %s: has no prompts", path)
	case err == nil && len(jobs) > maxJobs:
		return nil, fmt.Errorf("prompt file %s: %d clips are too many, at most %d", path, len(jobs), maxJobs)
	case err == nil:
		return jobs, nil
	case line == 0:
		return nil, fmt.Errorf("prompt file %s: %w", path, err)
	}
	return nil, fmt.Errorf("prompt file %s:%d: %w", path, line, err)
}

// parseLines takes every line that is neither blank nor a comment. After an error it returns the line.
func parseLines(data []byte) ([]Job, int, error) {
	var jobs []Job
	line := 0
	for text := range bytes.Lines(data) {
		line++
		text = bytes.TrimSpace(text)
		if len(text) == 0 || text[0] == '#' {
			continue
		}
		prompt := string(text)
		if err := checkText(prompt); err != nil {
			return nil, line, err
		}
		jobs = append(jobs, Job{line, []Value{{"prompt", prompt}}})
	}
	return jobs, 0, nil
}

func checkText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("is not UTF-8 text")
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && r != '\t' && r != '\n' }):
		return errors.New("has control characters")
	}
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func parseYAML(data []byte) ([]Job, int, error) {
	if !utf8.Valid(data) {
		return nil, 0, errors.New("is not UTF-8 text")
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, 0, nil
	} else if err != nil {
		return nil, 0, syntaxError(err)
	}
	if err := d.Decode(&second); err == nil {
		return nil, second.Line, errors.New("a second yaml document begins")
	} else if !errors.Is(err, io.EOF) {
		return nil, 0, syntaxError(err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.SequenceNode {
		return nil, 1, errors.New("must be a list whose entries begin with - (a file of lines has another name than .yaml)")
	}
	var jobs []Job
	for _, n := range doc.Content[0].Content {
		job, line, err := parseEntry(n)
		if err != nil {
			return nil, line, err
		}
		jobs = append(jobs, job)
	}
	return jobs, 0, nil
}

// syntaxError keeps the parser's text on one line.
func syntaxError(err error) error {
	s := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(s); m != nil {
		s = "line " + m[1] + ": " + yamlLine.ReplaceAllString(s, "")
	}
	return fmt.Errorf("not valid yaml: %s", strings.Join(strings.Fields(s), " "))
}

// parseEntry takes a prompt alone, or a mapping.
func parseEntry(n *yaml.Node) (Job, int, error) {
	job := Job{Line: n.Line}
	if n.Kind == yaml.AliasNode {
		return job, n.Line, errors.New("aliases are not supported: write the entry out")
	}
	if n.Kind == yaml.ScalarNode {
		v, err := scalar("prompt", text, n)
		job.Values = []Value{v}
		return job, n.Line, err
	}
	if n.Kind != yaml.MappingNode {
		return job, n.Line, errors.New("an entry must be a prompt, or settings with their values")
	}
	known, seen := kinds(), map[string]bool{}
	for k := 0; k+1 < len(n.Content); k += 2 {
		key, value := n.Content[k], n.Content[k+1]
		name := strings.ReplaceAll(key.Value, "-", "_")
		want, ok := known[name]
		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			return job, key.Line, fmt.Errorf("unknown setting %.60q: an entry has prompt, image, negative_prompt, output, seed, width, height, video_duration, sample_steps, guidance_weight, scheduler_scale, magcache, expand_prompt, lora", key.Value)
		case seen[name]:
			return job, key.Line, fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
		values, line, err := parseValue(name, want, value)
		if err != nil {
			return job, line, err
		}
		job.Values = append(job.Values, values...)
	}
	if !seen["prompt"] {
		return job, n.Line, errors.New("the entry has no prompt")
	}
	return job, n.Line, nil
}

// parseValue reads a value, or several where a kind allows them. After an error it returns the line.
func parseValue(name string, want kind, n *yaml.Node) ([]Value, int, error) {
	if want == texts && n.Kind == yaml.SequenceNode {
		if len(n.Content) == 0 {
			return []Value{{name, ""}}, n.Line, nil
		}
		var out []Value
		for _, item := range n.Content {
			v, err := scalar(name, text, item)
			if err != nil {
				return nil, item.Line, err
			}
			out = append(out, v)
		}
		return out, n.Line, nil
	}
	if want == texts && n.Kind == yaml.ScalarNode {
		want = text
	}
	v, err := scalar(name, want, n)
	return []Value{v}, n.Line, err
}

// scalar reads a value of a kind.
func scalar(name string, want kind, n *yaml.Node) (Value, error) {
	bad := fmt.Errorf("%s must be %s", name, want)
	if n.Kind != yaml.ScalarNode {
		return Value{}, bad
	}
	tag, v := n.ShortTag(), Value{name, n.Value}
	switch want {
	case text:
		if tag != "!!str" {
			return v, fmt.Errorf("%w: put %.40q in quotes", bad, n.Value)
		}
		if strings.TrimSpace(n.Value) == "" && name != "negative_prompt" {
			return v, fmt.Errorf("%s is empty", name)
		}
		return v, checkText(n.Value)
	case whole:
		u, err := strconv.ParseUint(n.Value, 10, 64)
		if tag != "!!int" || err != nil {
			return v, bad
		}
		v.Text = strconv.FormatUint(u, 10)
	case number:
		f, err := strconv.ParseFloat(n.Value, 64)
		if tag != "!!int" && tag != "!!float" || err != nil || f-f != 0 {
			return v, bad
		}
	case boolean:
		var b bool
		if tag != "!!bool" || n.Decode(&b) != nil {
			return v, bad
		}
		v.Text = strconv.FormatBool(b)
	}
	return v, nil
}
