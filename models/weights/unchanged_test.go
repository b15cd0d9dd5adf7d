package weights

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAFileThatIsWrittenToIsNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := WriteFile(path, []Tensor{{Name: "a", DType: F32, Shape: []int{1}, Data: make([]byte, 4)}}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.CheckUnchanged(); err != nil {
		t.Fatal(err)
	}
	old := f.opened.ModTime().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := f.CheckUnchanged(); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
		t.Errorf("another time gives %v", err)
	}
	if err := os.Chtimes(path, f.opened.ModTime(), f.opened.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := f.CheckUnchanged(); err != nil {
		t.Errorf("put back, it is refused: %v", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := OpenBytes("x", data)
	if err != nil || memory.CheckUnchanged() != nil {
		t.Errorf("in memory: %v", err)
	}
}
