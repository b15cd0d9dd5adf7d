package kandinsky5

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// TestWeightsThatAreWrittenToEndTheRun touches the transformer's file after the first step: no state of the second is kept, and
// no other video is made until the file is as it was.
func TestWeightsThatAreWrittenToEndTheRun(t *testing.T) {
	d := enginetest.Open(t)
	dir := smallModel(t)
	files, err := filepath.Glob(filepath.Join(dir, "transformer", "*.safetensors"))
	if err != nil || len(files) == 0 {
		t.Fatal("no transformer", err)
	}
	was, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(t.Context(), d, openSmall(t, dir), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	steps, r := 0, guidedRequest()
	r.AfterStep = func(Finished) (Decision, error) {
		steps++
		return Go, os.Chtimes(files[0], time.Time{}, was.ModTime().Add(time.Hour))
	}
	refused := func(err error, request bool) {
		t.Helper()
		if err == nil || errors.Is(err, ErrRequest) != request || !strings.Contains(err.Error(), files[0]) || !strings.Contains(err.Error(), "written to") || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v", err)
		}
	}
	_, err = p.Generate(t.Context(), r)
	if refused(err, false); steps != 1 {
		t.Errorf("%d steps were kept", steps)
	}
	_, err = p.Generate(t.Context(), pictureRequest())
	refused(err, true)
	_, err = p.Prepare(t.Context(), 1, func(int) (Request, error) { return pictureRequest(), nil })
	refused(err, true)
	if err := os.Chtimes(files[0], time.Time{}, was.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := p.checkFiles(); err != nil {
		t.Errorf("with the file as it was: %v", err)
	}
}
