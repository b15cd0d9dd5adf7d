package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// drawn makes pictures of a text-to-video model: all of their pixels depend on the prompt.
func drawn(more ...string) []string {
	return append([]string{
		"generate", "--checkpoint-dir", tinyModel, "--config", filepath.Join(tinyModel, "t2v.yaml"), "--width", "48", "--height", "32", "--video-duration", "0",
		"--sample-steps", "2", "--blocks-in-memory", "2", "--expand-prompt", "0",
	}, more...)
}

func writeFile(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAPromptFileMakesTheClipsOfRunsAlone(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	list := writeFile(t, at("list.yaml"), "- A fox runs.\n- prompt: A longer prompt of a blue bird.\n  seed: 7\n  width: 32\n  output: "+at("bird.png")+"\n- prompt: Snow.\n  guidance_weight: 1\n")
	var made []generated
	parseJSON(t, startOK(t, drawn("--prompt-file", list, "-o", at("night.png"), "--json", "--contact-sheet", at("sheet.png"))...).stdout, &made)
	if len(made) != 3 {
		t.Fatalf("%d clips", len(made))
	}
	for k, want := range []string{"night-001.png", "bird.png", "night-003.png"} {
		if g := made[k]; g.Output != at(want) || g.Receipt != at(strings.TrimSuffix(want, ".png")+".json") || g.ContactSheet != at("sheet-00"+string(rune('1'+k))+".png") {
			t.Errorf("clip %d: %+v", k, g)
		}
		if _, err := os.Stat(made[k].ContactSheet); err != nil {
			t.Error(err)
		}
	}
	if s := made[1].Settings; s.Seed != 7 || s.Size.Width != 32 || s.Size.Height != 32 || made[2].Settings.Guidance != 1 {
		t.Errorf("settings %+v", s)
	}
	for k, alone := range [][]string{1: {"--prompt", "A longer prompt of a blue bird.", "--seed", "7", "--width", "32"}, 2: {"--prompt", "Snow.", "--guidance-weight", "1"}} {
		if alone == nil {
			continue
		}
		path := at("alone.png")
		startOK(t, drawn(append(alone, "-o", path)...)...)
		a, errA := os.ReadFile(path)
		b, errB := os.ReadFile(made[k].Output)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("clip %d is not that of a run alone (%v, %v)", k, errA, errB)
		}
		if o := startOK(t, "compare", path, made[k].Output); !strings.Contains(o.stdout, "2 steps and frames") {
			t.Errorf("compare says\n%s", o.stdout)
		}
	}
}

func TestABadLineIsRefusedBeforeAnyWork(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	list := at("list.yaml")
	for _, c := range []struct{ text, want string }{
		{"- a fox\n- prompt: b\n  seed: -1\n", "list.yaml:3: seed"},
		{"- a fox\n- prompt: b\n  colour: red\n", "list.yaml:3: unknown setting"},
		{"- a fox\n- prompt: b\n  width: 31\n", "list.yaml:2: "},
		{"- a fox\n- prompt: b\n  sample_steps: 0\n", "list.yaml:2: --sample-steps 0"},
		{"- a fox\n- prompt: b\n  image: none.png\n", "none.png"},
		{"- a fox\n- prompt: b\n  output: " + at("x.avi") + "\n", "x.avi"},
		{"- a fox\n- prompt: b\n  output: " + at("out-001.png") + "\n", "is written by"},
		{"- a fox\n- prompt: b\n  output: " + filepath.Join(dir, "no", "x.png") + "\n", "list.yaml:2: "},
		{"prompt: a fox\n", "must be a list"},
		{"# nothing\n", "no prompts"},
	} {
		writeFile(t, list, c.text)
		status, stdout, stderr := invoke(t, drawn("--prompt-file", list, "-o", at("out.png"))...)
		if status != exitBadInput || stdout != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "vkandinsky: ") != 1 {
			t.Errorf("%q: status %d, %q, want %q", c.text, status, stderr, c.want)
		}
	}
	writeFile(t, list, "- a fox\n")
	for want, more := range map[string][]string{"exclude": {"--prompt", "fox"}, "--print-prompt": {"--print-prompt"}, "none.json": {"--from", at("none.json")}} {
		if status, _, stderr := invoke(t, drawn(append(more, "--prompt-file", list, "-o", at("out.png"))...)...); status != exitBadInput || !strings.Contains(stderr, want) {
			t.Errorf("%v: status %d, %q", more, status, stderr)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("mistakes left files behind: %v %v", entries, err)
	}
}
