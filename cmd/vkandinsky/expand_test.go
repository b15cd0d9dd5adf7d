package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/promptfile"
)

// chattyModel is a copy of the tiny model whose text encoder picks ids at random, one in eight of which ends the text.
func chattyModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tinyModel)); err != nil {
		t.Fatal(err)
	}
	stop := "400"
	for id := 401; id < 464; id++ {
		stop += "," + string(rune('0'+id/100)) + string(rune('0'+id/10%10)) + string(rune('0'+id%10))
	}
	rules := `{"do_sample": true, "temperature": 1000, "top_k": 0, "eos_token_id": [` + stop + `]}`
	if err := os.WriteFile(filepath.Join(dir, "text_encoder", "generation_config.json"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAnExpandedPromptIsPrintedAndUsed(t *testing.T) {
	dir := chattyModel(t)
	output := filepath.Join(t.TempDir(), "x.png")
	args := []string{"--config", filepath.Join(dir, "i2v.yaml"), "--prompt", "A fox runs.", "--image", filepath.Join("testdata", "first.png"),
		"--width", "32", "--height", "32", "--video_duration", "0", "--sample_steps", "1", "--seed", "3", "-o", output}
	printed := startOK(t, append(args, "--print-prompt", "--validate")...)
	text := strings.TrimSuffix(printed.stdout, "\n")
	if strings.TrimSpace(text) == "" || text == "A fox runs." {
		t.Fatalf("printed %q", printed.stdout)
	}
	if !strings.Contains(printed.stderr, "prompt expanded") {
		t.Errorf("the log lacks the prompt:\n%s", printed.stderr)
	}
	if _, err := os.Stat(output); err == nil {
		t.Error("a picture was made")
	}
	printMany(t, args, text)
	var made generated
	parseJSON(t, startOK(t, append(args, "--json", "--expand_prompt", "1")...).stdout, &made)
	if made.Settings.ExpandedPrompt != text || made.Settings.Prompt != "A fox runs." || made.Stats.Stages[0].Stage != "expand prompt" {
		t.Errorf("printed %q, then %+v", text, made)
	}
}

// printMany prints the prompts of two clips as an entry each of a prompt file, and as JSON. The first has the text that it has alone.
func printMany(t *testing.T, args []string, alone string) {
	for want, more := range map[string][]string{"--draft-steps": {"--draft-steps", "1"}, "--stats": {"--stats"}, "--expand-prompt 0": {"--expand-prompt", "0"}} {
		start(t, append(append(slices.Clone(args), more...), "--print-prompt")...).wantLine(t, exitBadInput, want)
	}
	dir := t.TempDir()
	list := writeFile(t, filepath.Join(dir, "list.yaml"), "- prompt: A fox runs.\n  width: 32\n- prompt: Snow.\n  seed: 4\n")
	args = slices.DeleteFunc(slices.Clone(args), func(s string) bool { return s == "--prompt" || s == "A fox runs." })
	yaml := startOK(t, append(args, "--prompt-file", list, "--print-prompt", "-o", filepath.Join(dir, "x.png"))...).stdout
	jobs, err := promptfile.Parse("out.yaml", []byte(yaml))
	if err != nil || len(jobs) != 2 {
		t.Fatalf("%v: printed\n%s", err, yaml)
	}
	want := []promptfile.Value{{Name: "prompt", Text: printable(alone)}, {Name: "width", Text: "32"}, {Name: "expand_prompt", Text: "false"}}
	if !slices.Equal(jobs[0].Values, want) || jobs[1].Get("seed") != "4" {
		t.Errorf("printed\n%s", yaml)
	}
	var found []printed
	parseJSON(t, startOK(t, append(args, "--prompt-file", list, "--print-prompt", "--json", "-o", filepath.Join(dir, "x.png"))...).stdout, &found)
	if len(found) != 2 || found[0] != (printed{1, list + ":1", "A fox runs.", alone, 3}) || found[1].Seed != 4 || printable(found[1].Expanded) != jobs[1].Get("prompt") {
		t.Errorf("printed %+v", found)
	}
	wantOnly(t, dir, "list.yaml")
}

func TestTheConfigurationDecidesWhetherPromptsAreExpanded(t *testing.T) {
	for _, c := range []struct {
		args []string
		want bool
	}{
		{[]string{"--config", "config_5s_i2v_pro_20b"}, true},
		{[]string{"--config", "config_5s_i2v_pro_20b", "--expand_prompt", "0"}, false},
		{[]string{"--config", filepath.Join(tinyModel, "t2v.yaml"), "--width", "32", "--height", "32"}, false},
		{[]string{"--config", filepath.Join(tinyModel, "t2v.yaml"), "--width", "32", "--height", "32", "--expand_prompt", "1"}, true},
		{[]string{"--checkpoint-dir", tinyModel, "--width", "32", "--height", "32"}, false},
	} {
		out := startOK(t, append([]string{"plan", "--vram", "80GiB", "--ram", "80GiB"}, c.args...)...).stdout
		if got := strings.Contains(out, "\nexpand prompt "); got != c.want {
			t.Errorf("%v: expands %v, want %v\n%s", c.args, got, c.want, out)
		}
	}
}

func TestAnExpandedPromptAppearsAsItIsWritten(t *testing.T) {
	var screen, lines bytes.Buffer
	log := slog.New(slog.NewTextHandler(&lines, nil))
	s := &promptStream{out: &screen, log: log}
	for _, text := range []string{"A", "A fox", "A fox\x1b[2J runs\nfar"} {
		s.told(text)
	}
	s.end()
	s.end()
	if got := screen.String(); got != "A fox[2J runs\nfar\n" || lines.Len() > 0 {
		t.Errorf("the screen has %q, the log %q", got, lines.String())
	}
	s = &promptStream{log: log}
	s.told("A fox")
	s.end()
	if !strings.Contains(lines.String(), `prompt="A fox"`) {
		t.Errorf("the log has %q", lines.String())
	}
	s.told("A") // the next of several prompts
	s.told("A dog")
	s.end()
	if !strings.Contains(lines.String(), `prompt="A dog"`) || strings.Count(lines.String(), "prompt=") != 2 {
		t.Errorf("the log has %q", lines.String())
	}
}
