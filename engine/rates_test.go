package engine_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
)

func TestRatesAreKeptForTheDriverThatTheyWereMeasuredWith(t *testing.T) {
	dir := t.TempDir()
	d := enginetest.OpenWith(t, engine.Options{CacheDir: dir, DeviceBudget: 1 << 20})
	if r := d.Rates(); r.Bus != 0 || r.Compute != nil {
		t.Errorf("rates before anything was measured: %+v", r)
	}
	held := d.Mem.Used(memory.Device)
	bus, err := d.MeasureBus(t.Context())
	if err != nil || bus < 1e6 || bus > 1e13 {
		t.Fatalf("%g bytes a second, %v", bus, err)
	}
	if err := d.Settle(); err != nil || d.Mem.Used(memory.Device) != held {
		t.Errorf("%d bytes are held after measuring, %d before, %v", d.Mem.Used(memory.Device), held, err)
	}
	want := engine.Rates{Bus: bus, Compute: map[string]float64{"mixed": 1e12}}
	if err := d.SaveRates(want); err != nil {
		t.Fatal(err)
	}
	if got := d.Rates(); !reflect.DeepEqual(got, want) {
		t.Errorf("kept were %+v, read %+v", want, got)
	}
	files, err := filepath.Glob(filepath.Join(dir, "rates-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func(string) string{
		"cut":            func(s string) string { return s[:len(s)/2] },
		"other version":  func(s string) string { return strings.Replace(s, `"version": 1`, `"version": 0`, 1) },
		"other driver":   func(s string) string { return strings.Replace(s, `"driver": "`, `"driver": "x`, 1) },
		"negative rates": func(s string) string { return strings.Replace(s, `"mixed": `, `"mixed": -`, 1) },
	} {
		bad := damage(string(good))
		if bad == string(good) {
			t.Fatalf("%s: nothing was damaged in %s", what, good)
		}
		if err := os.WriteFile(files[0], []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := d.Rates(); r.Bus != 0 || r.Compute != nil {
			t.Errorf("%s: rates are %+v", what, r)
		}
	}
}
