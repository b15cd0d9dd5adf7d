package promptfile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	got, err := Parse("a.txt", []byte("\xef\xbb\xbf# foxes\r\n\r\nA fox runs.\r\n   \n\t# not this\n  Лиса #1 спит. \nlast"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Job{{3, []Value{{"prompt", "A fox runs."}}}, {6, []Value{{"prompt", "Лиса #1 спит."}}}, {7, []Value{{"prompt", "last"}}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestYAML(t *testing.T) {
	got, err := Parse("a.YML", []byte(`
# two clips
- A fox runs.
- prompt: |
    The dragon
    breathes fire.
  negative-prompt: ""
  image: dragon.jpg
  seed: 18446744073709551615
  output: d.mp4
  width: 0064
  guidance_weight: 3.5
  magcache: true
  expand_prompt: false
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Job{{3, []Value{{"prompt", "A fox runs."}}}, {4, []Value{{"prompt", "The dragon\nbreathes fire.\n"}, {"negative_prompt", ""}, {"image", "dragon.jpg"},
		{"seed", "18446744073709551615"}, {"output", "d.mp4"}, {"width", "64"}, {"guidance_weight", "3.5"}, {"magcache", "true"}, {"expand_prompt", "false"}}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got[1].Get("image") != "dragon.jpg" || got[0].Get("image") != "" {
		t.Error("Get finds something else")
	}
}

func TestMistakesNameTheLine(t *testing.T) {
	for name, c := range map[string]struct{ file, data, want string }{
		"nothing":               {"a.txt", "", "has no prompts"},
		"comments alone":        {"a.txt", "# a\n\n# b\n", "has no prompts"},
		"an empty list":         {"a.yaml", "[]", "has no prompts"},
		"no yaml at all":        {"a.yaml", "# a\n", "has no prompts"},
		"bytes":                 {"a.txt", "a\n\xff\xfe\n", "a.txt:2: is not UTF-8"},
		"control characters":    {"a.txt", "a\n\nb\x1b[2J\n", "a.txt:3: has control characters"},
		"yaml of bytes":         {"a.yaml", "- a\xff\n", "UTF-8"},
		"a mapping":             {"a.yaml", "prompt: a\n", "must be a list"},
		"broken yaml":           {"a.yaml", "- prompt: a\n  seed: [1\n", "not valid yaml"},
		"two documents":         {"a.yaml", "- a\n---\n- b\n", "second yaml document"},
		"a nested list":         {"a.yaml", "- a\n- [b]\n", "a.yaml:2: an entry must be"},
		"an unknown setting":    {"a.yaml", "- prompt: a\n  colour: red\n", `a.yaml:2: unknown setting "colour"`},
		"a setting twice":       {"a.yaml", "- prompt: a\n  seed: 1\n  seed: 2\n", "a.yaml:3: seed is given twice"},
		"two spellings":         {"a.yaml", "- prompt: a\n  sample-steps: 1\n  sample_steps: 2\n", "given twice"},
		"no prompt":             {"a.yaml", "- a\n- seed: 1\n", "a.yaml:2: the entry has no prompt"},
		"an empty prompt":       {"a.yaml", "- prompt: ' '\n", "prompt is empty"},
		"nothing as a prompt":   {"a.yaml", "- prompt:\n", "prompt must be text"},
		"a number as a prompt":  {"a.yaml", "- 7\n", `in quotes`},
		"a seed in words":       {"a.yaml", "- prompt: a\n  seed: one\n", "a.yaml:2: seed must be a whole number"},
		"a negative seed":       {"a.yaml", "- prompt: a\n  seed: -1\n", "seed must be a whole number"},
		"a seed beyond 64 bits": {"a.yaml", "- prompt: a\n  seed: 18446744073709551616\n", "seed must be"},
		"half a step":           {"a.yaml", "- prompt: a\n  sample_steps: 1.5\n", "sample_steps must be a whole number"},
		"no number":             {"a.yaml", "- prompt: a\n  guidance_weight: .nan\n", "guidance_weight must be a number"},
		"an infinite number":    {"a.yaml", "- prompt: a\n  guidance_weight: 1e999\n", "guidance_weight must be a number"},
		"a list of nothing":     {"a.yaml", "- prompt: a\n  lora: [x, ~]\n", "a.yaml:2: lora must be text"},
		"a list of lists":       {"a.yaml", "- prompt: a\n  lora: [[x]]\n", "lora must be text"},
		"a mapping of adapters": {"a.yaml", "- prompt: a\n  lora: {x: 1}\n", "lora must be text or a list of texts"},
		"a list of prompts":     {"a.yaml", "- prompt: [a, b]\n", "prompt must be text"},
		"perhaps":               {"a.yaml", "- prompt: a\n  magcache: perhaps\n", "magcache must be true or false"},
		"an alias":              {"a.yaml", "- &a x\n- *a\n", "aliases"},
		"too many":              {"a.txt", strings.Repeat("a\n", maxJobs+1), "too many"},
		"too large":             {"a.txt", strings.Repeat(" ", maxFile+1), "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.file, []byte(c.data))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, c.want)
			}
		})
	}
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none.txt")} {
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	path := filepath.Join(dir, "a.txt")
	if err := os.WriteFile(path, []byte("a\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if jobs, err := Read(path); err != nil || len(jobs) != 2 {
		t.Errorf("%v, %v", jobs, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(true, []byte("- prompt: a\n  seed: 0x10\n- b\n"))
	f.Add(true, []byte("- &a {prompt: !!binary aGk=, <<: *a}\n"))
	f.Add(false, []byte("# a\r\nb\x00\n"))
	f.Fuzz(func(t *testing.T, isYAML bool, data []byte) {
		file := "a.txt"
		if isYAML {
			file = "a.yaml"
		}
		jobs, err := Parse(file, data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("more than a line: %q", err)
			}
			return
		}
		for _, j := range jobs {
			if strings.TrimSpace(j.Get("prompt")) == "" || j.Line < 1 {
				t.Fatalf("job %+v", j)
			}
		}
	})
}

func TestLoRAMayBeOneOrSeveralOrNone(t *testing.T) {
	jobs, err := Parse("a.yaml", []byte("- prompt: a\n  lora: x.safetensors:0.5\n- prompt: b\n  lora: [x, 'y:2']\n- prompt: c\n  lora: []\n"))
	if err != nil || len(jobs) != 3 {
		t.Fatalf("%d jobs, error %v", len(jobs), err)
	}
	for k, want := range [][]Value{{{"lora", "x.safetensors:0.5"}}, {{"lora", "x"}, {"lora", "y:2"}}, {{"lora", ""}}} {
		if got := jobs[k].Values[1:]; !slices.Equal(got, want) {
			t.Errorf("entry %d says %v, want %v", k+1, got, want)
		}
	}
}

func TestValuesFromElsewhereAreChecked(t *testing.T) {
	if err := Check([]Value{{"prompt", "A fox runs."}, {"seed", "7"}}); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]Value{{{"cache_dir", "/"}}, {{"seed", "1"}, {"seed", "2"}}, {{"", ""}}} {
		if err := Check(bad); err == nil {
			t.Errorf("%v is allowed", bad)
		}
	}
}
