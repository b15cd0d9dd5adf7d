package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
	var made generated
	parseJSON(t, startOK(t, append(args, "--json", "--expand_prompt", "1")...).stdout, &made)
	if made.Settings.ExpandedPrompt != text || made.Settings.Prompt != "A fox runs." || made.Stats.Stages[0].Stage != "expand prompt" {
		t.Errorf("printed %q, then %+v", text, made)
	}
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
