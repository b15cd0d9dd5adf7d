package engine_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/shaders"
)

func tunedDevice(t *testing.T, dir string) *engine.Device {
	t.Helper()
	return enginetest.OpenWith(t, engine.Options{CacheDir: dir})
}

func TestTuningIsKeptForTheDevice(t *testing.T) {
	dir := t.TempDir()
	d := tunedDevice(t, dir)
	if all := d.Tuning().All(); len(all) != 0 || d.Tuning().Choice("matmul", "a") != "" {
		t.Fatalf("a fresh cache holds %v", all)
	}
	d.Tuning().Set(engine.Tuned{Kernel: "matmul", Shape: "b", Shader: shaders.Fill, Choice: "wide", Seconds: 1, Default: 2})
	d.Tuning().Set(engine.Tuned{Kernel: "matmul", Shape: "a", Shader: shaders.Fill, Choice: "narrow", Seconds: 1, Default: 2})
	d.Tuning().Set(engine.Tuned{Kernel: "matmul", Shape: "c", Shader: shaders.Fill, Choice: "gone"})
	d.Tuning().Drop("matmul", "c")
	if err := d.SaveTuning(); err != nil {
		t.Fatal(err)
	}
	again := tunedDevice(t, dir).Tuning()
	if again.Choice("matmul", "a") != "narrow" || again.Choice("matmul", "b") != "wide" || again.Choice("matmul", "c") != "" || again.Choice("attention", "a") != "" {
		t.Errorf("the next device has %+v", again.All())
	}
	if all := again.All(); len(all) != 2 || all[0].Shape != "a" || all[0].Default != 2 {
		t.Errorf("%+v", all)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
	if other := tunedDevice(t, "").Tuning(); other.File() != "" || len(other.All()) != 0 {
		t.Errorf("without a folder there is %+v in %q", other.All(), other.File())
	}
	if err := tunedDevice(t, "").SaveTuning(); err != nil {
		t.Errorf("without a folder: %v", err)
	}
}

func TestStaleOrDamagedTuningIsAsNone(t *testing.T) {
	dir := t.TempDir()
	d := tunedDevice(t, dir)
	d.Tuning().Set(engine.Tuned{Kernel: "matmul", Shape: "a", Shader: shaders.Fill, Choice: "narrow"})
	if err := d.SaveTuning(); err != nil {
		t.Fatal(err)
	}
	file := d.Tuning().File()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	replaced := func(old, with string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("the file lacks %q:\n%s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	for name, data := range map[string][]byte{
		"empty": {}, "cut short": good[:len(good)/2], "no JSON": []byte("tile = 128"), "JSON of another kind": []byte(`[1, 2]`),
		"another version":        replaced(`"version": 1`, `"version": 2`),
		"another driver":         replaced(`"driver": "`, `"driver": "x`),
		"a shader that changed":  replaced(engine.CodeHash(shaders.Fill), "0123456789abcdef"),
		"a shader that is gone":  replaced(`"`+shaders.Fill+`"`, `"no such shader"`),
		"a choice without name":  replaced(`"narrow"`, `""`),
		"binary in place of all": bytes.Repeat([]byte{0xff}, 100),
	} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if all := tunedDevice(t, dir).Tuning().All(); len(all) != 0 {
			t.Errorf("%s: %+v", name, all)
		}
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if all := tunedDevice(t, dir).Tuning().All(); len(all) != 1 {
		t.Errorf("the whole file gives %+v", all)
	}
}

func TestTuningThatCannotBeSavedSaysSo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := engine.Open(t.Context(), engine.Options{CacheDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SaveTuning(); err == nil || !strings.HasPrefix(err.Error(), "tuning not saved: ") {
		t.Errorf("error %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestTuningMayBeUsedFromManyGoroutines(t *testing.T) {
	tuning := tunedDevice(t, t.TempDir()).Tuning()
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 100 {
				tuning.Set(engine.Tuned{Kernel: "k", Shape: "s", Shader: shaders.Fill, Choice: "c"})
				if c := tuning.Choice("k", "s"); c != "c" && c != "" {
					t.Errorf("choice %q", c)
				}
				tuning.Drop("k", "s")
				tuning.All()
			}
		})
	}
	wait.Wait()
}
