package injected

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func environ(pairs ...string) lookupEnv {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if n, v, _ := strings.Cut(p, "="); n == name {
				return v, true
			}
		}
		return "", false
	}
}

const alwaysOn = `{"file_format_version": "1.0.0", "layer": {"name": "VK_LAYER_test_on", "library_path": "..\\x\\on.dll",
	"description": "a layer", "disable_environment": {"DISABLE_ON": "1"}}}`

const onDemand = `{"layers": [{"name": "VK_LAYER_test_asked", "library_path": "/usr/lib/libasked.so",
	"enable_environment": {"ASKED": "1"}, "disable_environment": {"NOT_ASKED": ""}}, {"name": "no library"}, {"library_path": "no name"},
	{"name": "VK_LAYER_meta", "component_layers": ["a"]}]}`

func TestManifestsSayWhetherTheLoaderTakesALayer(t *testing.T) {
	for _, c := range []struct {
		manifest, layer string
		env             []string
		active          bool
		why             string
	}{
		{alwaysOn, "VK_LAYER_test_on", nil, true, "always on"},
		{alwaysOn, "VK_LAYER_test_on", []string{"DISABLE_ON="}, false, "off by DISABLE_ON"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=~implicit~"}, false, "off by VK_LOADER_LAYERS_DISABLE"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=other,*TEST*"}, false, "off by VK_LOADER_LAYERS_DISABLE"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=*_on"}, false, "off by VK_LOADER_LAYERS_DISABLE"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=vk_layer_test_on"}, false, "off by VK_LOADER_LAYERS_DISABLE"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=VK_LAYER_test*", "VK_LOADER_LAYERS_ALLOW=*on*"}, true, "always on"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=VK_LAYER_test"}, true, "always on"},
		{alwaysOn, "VK_LAYER_test_on", []string{"VK_LOADER_LAYERS_DISABLE=~all~", "VK_LOADER_LAYERS_ENABLE=*test*"}, true, "on by VK_LOADER_LAYERS_ENABLE"},
		{onDemand, "VK_LAYER_test_asked", nil, false, "off unless ASKED=1"},
		{onDemand, "VK_LAYER_test_asked", []string{"ASKED=0"}, false, "off unless ASKED=1"},
		{onDemand, "VK_LAYER_test_asked", []string{"ASKED=1"}, true, "on by ASKED"},
		{onDemand, "VK_LAYER_test_asked", []string{"ASKED=1", "NOT_ASKED=1"}, false, "off by NOT_ASKED"},
		{onDemand, "VK_LAYER_meta", nil, true, "always on"},
	} {
		layers, err := parseManifest("m.json", []byte(c.manifest), environ(c.env...))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, l := range layers {
			if l.Name != c.layer {
				continue
			}
			found = true
			if l.Active != c.active || l.Why != c.why {
				t.Errorf("%s with %v: active %v (%s), want %v (%s)", c.layer, c.env, l.Active, l.Why, c.active, c.why)
			}
		}
		if !found {
			t.Errorf("%s is not among %+v", c.layer, layers)
		}
	}
	layers, err := parseManifest("m.json", []byte(alwaysOn), environ())
	if err != nil || len(layers) != 1 || layers[0].Library != "on.dll" || layers[0].Disable != "DISABLE_ON=1" || layers[0].Manifest != "m.json" {
		t.Errorf("%+v, %v", layers, err)
	}
	if layers, _ := parseManifest("m.json", []byte(onDemand), environ()); len(layers) != 2 {
		t.Errorf("%d layers, want the two that are whole: %+v", len(layers), layers)
	}
}

func TestLayersReadsTheFoldersThatTheLoaderReads(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("manifests are in the registry there")
	}
	dir := t.TempDir()
	for _, name := range []string{"a.json", "broken.json", "ignored.txt"} {
		text := alwaysOn
		if name == "broken.json" {
			text = text[:40]
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("VK_IMPLICIT_LAYER_PATH", dir)
	if got := Layers(); len(got) != 1 || got[0].Name != "VK_LAYER_test_on" || !got[0].Active {
		t.Errorf("%+v", got)
	}
	got := folders(environ("HOME=/home/a", "XDG_DATA_DIRS=/d:/e", "VK_ADD_IMPLICIT_LAYER_PATH=/more"))
	want := "/more /home/a/.config/vulkan/implicit_layer.d /etc/xdg/vulkan/implicit_layer.d /usr/local/etc/vulkan/implicit_layer.d " +
		"/etc/vulkan/implicit_layer.d /home/a/.local/share/vulkan/implicit_layer.d /d/vulkan/implicit_layer.d /e/vulkan/implicit_layer.d"
	if strings.Join(got, " ") != want {
		t.Errorf("folders %v", got)
	}
}

func TestKnownProductsAreFoundByLayerAndByModule(t *testing.T) {
	for name, product := range map[string]string{
		"VK_LAYER_bandicam_helper": "Bandicam", "VK_LAYER_RTSS": "RivaTuner Statistics Server (MSI Afterburner)", "VK_LAYER_OBS_HOOK": "OBS Studio's game capture",
		"VK_LAYER_OW_OBS_HOOK": "Overwolf", "VK_LAYER_MANGOHUD_overlay_x86_64": "MangoHud", "VK_LAYER_VALVE_steam_overlay_64": "Steam's overlay",
		"VK_LAYER_MESA_device_select": "Mesa's device selection",
	} {
		if k, ok := ByLayer(name); !ok || k.Product != product {
			t.Errorf("%s is taken for %q, want %q", name, k.Product, product)
		}
	}
	for path, product := range map[string]string{
		`C:\Program Files (x86)\FPS Monitor\tools\fpsmonvk64.dll`: "FPS Monitor", `C:\ProgramData\obs-studio-hook\graphics-hook64.dll`: "OBS Studio's game capture",
		`C:\x\ow-graphics-hook64.dll`: "Overwolf", "/usr/lib/mangohud/libMangoHud.so": "MangoHud",
	} {
		if k, ok := ByModule(path); !ok || k.Product != product {
			t.Errorf("%s is taken for %q, want %q", path, k.Product, product)
		}
	}
	for _, harmless := range []string{"VK_LAYER_KHRONOS_validation", "libvulkan_lvp.so", "libc.so.6"} {
		if k, ok := ByLayer(harmless); ok {
			t.Errorf("%s is taken for %s", harmless, k.Product)
		}
		if k, ok := ByModule(harmless); ok {
			t.Errorf("%s is taken for %s", harmless, k.Product)
		}
	}
	for _, k := range all() {
		if k.Product == "" || k.What == "" || !strings.HasPrefix(k.Source, "https://") || len(k.layers)+len(k.files) == 0 {
			t.Errorf("an entry is not whole: %+v", k)
		}
		for _, part := range append(append([]string{}, k.layers...), k.files...) {
			if part != strings.ToLower(part) || len(part) < 4 {
				t.Errorf("%s: %q would match nothing or too much", k.Product, part)
			}
		}
	}
}

func TestModulesListsWhatIsLoaded(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("a test program of another system may load nothing")
	}
	got := mapped("7f00-7f01 r-xp 0 0:0 1   /usr/lib/libx.so.1\n7f02-7f03 r--p 0 0:0 1   /usr/lib/libx.so.1\n7f04-7f05 rw-p 0 0:0 0\n" +
		"7f06-7f07 r--p 0 0:0 0  [stack]\n7f08-7f09 r-xp 0 0:0 1 /opt/lib y.so (deleted)\n7f0a-7f0b r-xp 0 0:0 1 /bin/program\n")
	if strings.Join(got, "|") != "/usr/lib/libx.so.1|/opt/lib y.so" {
		t.Errorf("%v", got)
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(alwaysOn))
	f.Add([]byte(onDemand))
	f.Add([]byte(`{"layer": null, "layers": [{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		layers, err := parseManifest("m.json", data, environ("VK_LOADER_LAYERS_DISABLE=*a*,b*,*c,d"))
		if err != nil && layers != nil {
			t.Errorf("layers beside an error: %+v", layers)
		}
		for _, l := range layers {
			if l.Name == "" || strings.ContainsAny(l.Library, `/\`) {
				t.Errorf("layer %+v", l)
			}
		}
	})
}
