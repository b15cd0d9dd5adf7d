package configs

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

//go:embed *.yaml
var presetFiles embed.FS

// maxFileSize bounds what Load reads; the largest published file is 3 KiB.
const maxFileSize = 1 << 20

// Presets returns the names of the embedded presets, sorted, without ".yaml".
func Presets() []string {
	entries, _ := presetFiles.ReadDir(".") // embedded: cannot fail
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Preset returns an embedded preset by name, with or without ".yaml".
func Preset(name string) (*Config, error) {
	base := strings.TrimSuffix(name, ".yaml")
	data, err := presetFiles.ReadFile(base + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no preset named %q (presets: %s)", name, strings.Join(Presets(), ", "))
	}
	return decode(base+".yaml (built in)", base, data)
}

// PresetSource returns the yaml text of an embedded preset, for writing a copy to start from.
func PresetSource(name string) ([]byte, error) {
	data, err := presetFiles.ReadFile(strings.TrimSuffix(name, ".yaml") + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("no preset named %q (presets: %s)", name, strings.Join(Presets(), ", "))
	}
	return data, nil
}

// Load reads and checks a configuration file. When there is no such file but the path's base name is a preset's,
// with or without ".yaml", the preset is used, so that upstream's "--config ./configs/NAME.yaml" works in any
// folder. A mistake in the file is an *Error.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		base := strings.TrimSuffix(baseName(path), ".yaml")
		if _, perr := PresetSource(base); perr == nil {
			return Preset(base)
		}
		return nil, fmt.Errorf("configuration %s: no such file, and no preset of that name (presets: %s)", path, strings.Join(Presets(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	name := strings.TrimSuffix(strings.TrimSuffix(baseName(path), ".yaml"), ".yml")
	c, err := decode(path, name, data)
	if err != nil {
		return nil, err
	}
	c.Dir = filepath.Dir(path)
	return c, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.IsDir() {
		return nil, fmt.Errorf("%s is a folder, not a yaml file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("%s is larger than %d bytes, not a configuration", path, maxFileSize)
	}
	return data, nil
}

// baseName is filepath.Base that takes both slashes everywhere: command lines travel between systems.
func baseName(path string) string {
	return path[strings.LastIndexAny(path, `/\`)+1:]
}

// PipelineOf returns the pipeline that a configuration's name asks for: the first of t2i, i2i, i2v found in it
// decides, and a name with none of them is text to video (kandinsky-5, test.py). Case is ignored. Image pipelines
// (t2i, i2i) give "".
func PipelineOf(name string) Pipeline {
	name = strings.ToLower(baseName(name))
	switch {
	case strings.Contains(name, "t2i"), strings.Contains(name, "i2i"):
		return ""
	case strings.Contains(name, "i2v"):
		return I2V
	}
	return T2V
}
