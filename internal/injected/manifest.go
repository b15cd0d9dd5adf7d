package injected

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
)

// Layer is an implicit layer that is installed.
type Layer struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Library     string `json:"library"` // as the manifest has it, without its folder
	Manifest    string `json:"manifest"`
	// Disable is the setting that keeps the loader from taking it, "NAME=1".
	Disable string `json:"disable,omitempty"`
	// Active says that the loader takes it in this environment; Why says what decides.
	Active bool   `json:"active"`
	Why    string `json:"why"`
}

// maxManifest bounds what is read of one manifest; real ones have about one KiB.
const maxManifest = 1 << 20

// Layers lists the implicit layers that are installed, in the order of their names. Manifests that cannot be read are
// left out, as the loader leaves them out.
func Layers() []Layer {
	var out []Layer
	seen := map[string]bool{}
	for _, path := range manifests() {
		layers, err := readManifest(path, os.LookupEnv)
		if err != nil {
			continue
		}
		for _, l := range layers {
			if !seen[l.Name] { // the loader takes the first
				seen[l.Name] = true
				out = append(out, l)
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

func readManifest(path string, lookup lookupEnv) ([]Layer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	return parseManifest(path, data, lookup)
}

// lookupEnv is os.LookupEnv, or a test's.
type lookupEnv func(name string) (string, bool)

// manifestLayer is a layer as manifests describe it.
type manifestLayer struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Library     string            `json:"library_path"`
	Components  []string          `json:"component_layers"` // a meta layer has these and no library
	Enable      map[string]string `json:"enable_environment"`
	Disable     map[string]string `json:"disable_environment"`
}

// parseManifest reads a manifest, which describes one layer or several.
func parseManifest(path string, data []byte, lookup lookupEnv) ([]Layer, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("injected: %s: larger than %d bytes", path, maxManifest)
	}
	var file struct {
		Layer  *manifestLayer  `json:"layer"`
		Layers []manifestLayer `json:"layers"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("injected: %s: %w", path, err)
	}
	if file.Layer != nil {
		file.Layers = append([]manifestLayer{*file.Layer}, file.Layers...)
	}
	var out []Layer
	for _, m := range file.Layers {
		if m.Name == "" || m.Library == "" && len(m.Components) == 0 {
			continue
		}
		l := Layer{Name: m.Name, Description: m.Description, Library: base(m.Library), Manifest: path}
		for name := range m.Disable {
			l.Disable = name + "=1"
		}
		l.Active, l.Why = m.active(lookup)
		out = append(out, l)
	}
	return out, nil
}

// base is the last part of a path of either system: Windows' manifests have backslashes.
func base(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

// active tells whether the loader takes an implicit layer, by the loader's rules: its own variables first, then the
// filters.
func (m manifestLayer) active(lookup lookupEnv) (bool, string) {
	on, why := true, "always on"
	for name, value := range m.Enable {
		if got, _ := lookup(name); got != value {
			on, why = false, "off unless "+name+"="+value
		} else {
			why = "on by " + name
		}
	}
	for name := range m.Disable {
		if _, set := lookup(name); set {
			on, why = false, "off by "+name
		}
	}
	const disable, allow, enable = "VK_LOADER_LAYERS_DISABLE", "VK_LOADER_LAYERS_ALLOW", "VK_LOADER_LAYERS_ENABLE"
	if off, _ := lookup(disable); filtered(off, m.Name) {
		if not, _ := lookup(allow); !filtered(not, m.Name) {
			on, why = false, "off by "+disable
		}
	}
	if list, _ := lookup(enable); filtered(list, m.Name) {
		on, why = true, "on by "+enable
	}
	return on, why
}

// filtered tells whether one of the loader's filters, globs with commas between them, takes in an implicit layer.
func filtered(filter, layer string) bool {
	layer = strings.ToLower(layer)
	for _, glob := range strings.Split(strings.ToLower(filter), ",") {
		switch {
		case glob == "":
		case glob == "~all~", glob == "*", glob == "**", glob == "~implicit~":
			return true
		case strings.HasPrefix(glob, "*") && strings.HasSuffix(glob, "*"):
			if strings.Contains(layer, strings.Trim(glob, "*")) {
				return true
			}
		case strings.HasPrefix(glob, "*"):
			if strings.HasSuffix(layer, glob[1:]) {
				return true
			}
		case strings.HasSuffix(glob, "*"):
			if strings.HasPrefix(layer, glob[:len(glob)-1]) {
				return true
			}
		case glob == layer:
			return true
		}
	}
	return false
}

// manifests lists the files that may describe implicit layers.
func manifests() []string {
	if runtime.GOOS == "windows" {
		return registered()
	}
	var out []string
	for _, dir := range folders(os.LookupEnv) {
		found, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err == nil {
			out = append(out, found...)
		}
	}
	return out
}

// folders are those that the loader looks for implicit layers in on Linux, first to last.
func folders(lookup lookupEnv) []string {
	if list, ok := lookup("VK_IMPLICIT_LAYER_PATH"); ok && list != "" {
		return filepath.SplitList(list)
	}
	var roots []string
	add := func(name, otherwise string) {
		list, ok := lookup(name)
		if !ok || list == "" {
			list = otherwise
		}
		roots = append(roots, filepath.SplitList(list)...)
	}
	home, _ := lookup("HOME")
	add("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	add("XDG_CONFIG_DIRS", "/etc/xdg")
	roots = append(roots, "/usr/local/etc", "/etc")
	add("XDG_DATA_HOME", filepath.Join(home, ".local", "share"))
	add("XDG_DATA_DIRS", "/usr/local/share:/usr/share")
	more, _ := lookup("VK_ADD_IMPLICIT_LAYER_PATH")
	out := filepath.SplitList(more)
	seen := map[string]bool{}
	for _, root := range roots {
		dir := filepath.Join(root, "vulkan", "implicit_layer.d")
		if !seen[dir] {
			seen[dir] = true
			out = append(out, dir)
		}
	}
	return out
}
