package configs

import (
	"strings"
	"testing"
)

func TestExpandPromptIsOnUnlessAFileSaysNo(t *testing.T) {
	c, err := Preset("config_5s_i2v_pro_20b")
	if err != nil || c.Model.KeepPrompt {
		t.Fatalf("the published file keeps prompts: %v, %v", c.Model.KeepPrompt, err)
	}
	c.Model.KeepPrompt = true
	text, err := c.YAML()
	if err != nil || !strings.Contains(string(text), "expand_prompt: false") {
		t.Fatalf("written as %s, %v", text, err)
	}
	for said, want := range map[string]bool{"false": true, "true": false} {
		again, err := decode("x_i2v.yaml", "x_i2v", []byte(strings.Replace(string(text), "expand_prompt: false", "expand_prompt: "+said, 1)))
		if err != nil || again.Model.KeepPrompt != want {
			t.Errorf("expand_prompt %s: keeps %v, %v", said, again.Model.KeepPrompt, err)
		}
	}
	if _, err := decode("x_i2v.yaml", "x_i2v", []byte(strings.Replace(string(text), "expand_prompt: false", "expand_prompt: maybe", 1))); err == nil {
		t.Error("expand_prompt: maybe was accepted")
	}
}
