package tokenizer

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

func TestInstructionsAreUpstreams(t *testing.T) {
	sums := map[string]string{
		"i2v": "22a201aa6decaffd4ff2e8bef3ad45f65f13a4c9a473cb1f6908dfe03980854b",
		"t2v": "649330473e6f09911bfa189523fbf6b300853a74c315f9234db26802a29179bf",
		"t2i": "8a97261c967a0f437860b1de4c644fc0ed89286ab90beb712e2f0ef6dc15c051",
	}
	for _, i := range Instructions() {
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(i.Text))); got != sums[i.Name] {
			t.Errorf("%s: sha256 %s, want %s", i.Name, got, sums[i.Name])
		}
		delete(sums, i.Name)
		if filled := i.Fill(`a "{prompt}"`); !strings.Contains(filled, `"a "{prompt}""`) || strings.Count(filled, promptMark) != 1 {
			t.Errorf("%s: filled with a prompt that has the mark in it:\n%s", i.Name, filled)
		}
	}
	if len(sums) > 0 {
		t.Errorf("no such instructions: %v", sums)
	}
}
