// Package testdata finds the reference material that tests compare with: golden cases computed by the
// public PyTorch implementation, and the published tokenizer vocabularies.
//
// The large files live outside the repository; the environment variable VKANDINSKY_SHARED names their folder,
// and without it a folder "shared" beside the repository is used. A test that needs a missing file fails: a
// skipped reference case looks like a passed one.
package testdata

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Shared returns the path of a reference file such as "golden/vae.safetensors" and fails the test when it
// does not exist.
func Shared(tb testing.TB, name string) string {
	tb.Helper()
	path := filepath.Join(sharedDir(), filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		tb.Fatalf("reference file missing: %v (set VKANDINSKY_SHARED to the folder that holds golden/ and tokenizers/)", err)
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
