package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// Tuned is a way of computing an operation that was measured to be the fastest of several on a device. The ways of one
// operation differ in tiles, not in results.
type Tuned struct {
	Kernel string `json:"kernel"` // the operation, "matmul"
	Shape  string `json:"shape"`  // what it works on, as the operation writes it
	Shader string `json:"shader"` // the variant that was measured
	Code   string `json:"code"`   // hash of that variant's SPIR-V
	Choice string `json:"choice"` // the fastest way's name
	// Seconds is how long it took, Default how long the way took that the operation takes by itself.
	Seconds float64 `json:"seconds"`
	Default float64 `json:"default_seconds"`
}

// Tuning is what was measured on one device with one driver: a file in the cache folder, and a part of the Device. Choices
// for shaders that have changed since are left out. Safe for concurrent use.
type Tuning struct {
	file string

	mu       sync.RWMutex
	entries  map[tuningKey]Tuned
	explorer Explorer
	active   atomic.Bool // there is an entry or an explorer
}

type tuningKey struct{ kernel, shape string }

// tuningVersion counts changes of the file's format or of what its names mean.
const tuningVersion = 1

// maxTuningFile bounds what is read; a file has some hundred bytes per choice.
const maxTuningFile = 4 << 20

// tuningFile is the format on disk.
type tuningFile struct {
	Version int     `json:"version"`
	Device  string  `json:"device"` // for people
	Driver  string  `json:"driver"` // text and number: a choice is good for one version
	Choices []Tuned `json:"choices"`
}

// TuningFile is where the choices for a device and its driver are kept in a cache folder.
func TuningFile(dir string, info vk.DeviceInfo) string {
	return filepath.Join(dir, "tune-"+hex.EncodeToString(info.DeviceUUID[:])+"-"+hex.EncodeToString(info.DriverUUID[:])+".json")
}

// loadTuning reads the choices for a device. A file that is missing, damaged, of another version or for another version of
// the driver is as none: it costs speed only.
func loadTuning(dir string, info vk.DeviceInfo) *Tuning {
	t := &Tuning{entries: map[tuningKey]Tuned{}}
	if dir == "" {
		return t
	}
	t.file = TuningFile(dir, info)
	f, err := os.Open(t.file)
	if err != nil {
		return t
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTuningFile))
	if err != nil {
		return t
	}
	for _, e := range parseTuning(data, tuningDriver(info)) {
		t.entries[tuningKey{e.Kernel, e.Shape}] = e
	}
	t.active.Store(len(t.entries) > 0)
	return t
}

// parseTuning returns the choices of a file that still hold.
func parseTuning(data []byte, driver string) []Tuned {
	var file tuningFile
	if json.Unmarshal(data, &file) != nil || file.Version != tuningVersion || file.Driver != driver {
		return nil
	}
	hashes := map[string]string{}
	var out []Tuned
	for _, e := range file.Choices {
		if _, known := hashes[e.Shader]; !known {
			hashes[e.Shader] = CodeHash(e.Shader)
		}
		if e.Kernel != "" && e.Choice != "" && e.Code != "" && e.Code == hashes[e.Shader] {
			out = append(out, e)
		}
	}
	return out
}

func tuningDriver(info vk.DeviceInfo) string {
	return fmt.Sprintf("%s %s (%d)", info.Driver, info.DriverInfo, info.DriverVersion)
}

// CodeHash identifies the SPIR-V of a shader variant, "" for one that does not exist.
func CodeHash(shader string) string {
	code := shaders.SPIRV(shader)
	if code == nil {
		return ""
	}
	sum := sha256.Sum256(code)
	return hex.EncodeToString(sum[:8])
}

// Tuning returns the choices that hold on this device.
func (d *Device) Tuning() *Tuning { return d.tuning }

// Choice returns the name of the way to compute an operation on a shape, "" where none was measured.
func (t *Tuning) Choice(kernel, shape string) string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.entries[tuningKey{kernel, shape}].Choice
}

// Set puts a choice in force for what is recorded from now on. Code is filled in.
func (t *Tuning) Set(e Tuned) {
	e.Code = CodeHash(e.Shader)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[tuningKey{e.Kernel, e.Shape}] = e
	t.active.Store(true)
}

// Drop takes a choice back.
func (t *Tuning) Drop(kernel, shape string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, tuningKey{kernel, shape})
}

// All lists the choices by kernel and shape.
func (t *Tuning) All() []Tuned {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]Tuned, 0, len(t.entries))
	for _, e := range t.entries {
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Kernel != out[j].Kernel {
			return out[i].Kernel < out[j].Kernel
		}
		return out[i].Shape < out[j].Shape
	})
	return out
}

// File is where Save writes, "" without a cache folder.
func (t *Tuning) File() string { return t.file }

// SaveTuning writes the choices that are in force, in one piece. Without a cache folder it does nothing.
func (d *Device) SaveTuning() error {
	if d.tuning.file == "" {
		return nil
	}
	info := d.Summary.Physical.Info
	data, err := json.MarshalIndent(tuningFile{Version: tuningVersion, Device: info.Name, Driver: tuningDriver(info), Choices: d.tuning.All()}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeAtomic(d.tuning.file, append(data, '\n')); err != nil {
		return fmt.Errorf("tuning not saved: %w", err)
	}
	return nil
}
