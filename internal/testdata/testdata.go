// Package testdata finds the reference material that tests compare with: golden cases computed by the public PyTorch
// implementation, which lie in the repository's testdata folder, and the published tokenizer vocabularies, which are
// not ours to ship.
//
// The environment variable VKANDINSKY_SHARED names the folder that holds tokenizers/; without it a folder "shared" beside
// the repository is used. Where the vocabularies are missing, tests that need them are skipped with the way to get
// them, but never in CI (CI=true): there a skipped reference case would look like a passed one.
package testdata

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Shared returns the path of a reference file such as "golden/vae.safetensors" or "tokenizers/qwen/vocab.json". A golden
// case that does not exist fails the test; a vocabulary that does not exist skips it, and fails it in CI.
func Shared(tb testing.TB, name string) string {
	tb.Helper()
	if strings.HasPrefix(name, "golden/") {
		path := filepath.Join(Root(), "testdata", filepath.FromSlash(name))
		if _, err := os.Stat(path); err != nil {
			tb.Fatalf("golden case missing: %v", err)
		}
		return path
	}
	path := filepath.Join(sharedDir(), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		report := tb.Skipf
		if os.Getenv("CI") != "" {
			report = tb.Fatalf
		}
		report("published vocabulary missing: %v (put the tokenizer files of Qwen2.5-VL and CLIP into tokenizers/qwen and tokenizers/clip of a folder and name it in VKANDINSKY_SHARED)", err)
	}
	return path
}

// Root returns the repository's top folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

func sharedDir() string {
	if dir := os.Getenv("VKANDINSKY_SHARED"); dir != "" {
		return dir
	}
	return filepath.Join(Root(), "..", "shared")
}
