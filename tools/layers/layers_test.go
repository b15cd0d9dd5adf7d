// Package layers holds the architecture: which package may import which, and where C and unsafe may be.
//
// It has no code but this test, which reads the imports of every Go file.
package layers

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/testdata"
)

const (
	module   = "github.com/vkandinsky/vkandinsky/"
	vulkanGo = "github.com/vulkan-go/vulkan"
)

// order lists the layers from the bottom: a package may import packages of lower layers only. A name ending in / stands
// for the packages below it that no other entry names; packages of one such entry may import each other.
var order = []string{
	"engine/vk", "memory", "engine", "engine/ops", "swap", "models/", "models/kandinsky5", "models/tiny", "models/verify", "models/bench", "models/doctor", "models/tune", "models/synth", "cmd/",
}

// leaves may be imported by all and import nothing of ours but other leaves named in their rule.
var leaves = map[string][]string{
	"shaders":       {"shaders/spirv"},
	"shaders/spirv": nil,
	"configs":       nil,
	"internal/":     {"internal/"},
}

// rank returns a package's layer, or -1 for one outside the order (leaves, tools, tests' own packages).
func rank(pkg string) int {
	for i, layer := range order {
		if pkg == layer {
			return i
		}
	}
	for i, layer := range order {
		if strings.HasSuffix(layer, "/") && strings.HasPrefix(pkg, layer) {
			return i
		}
	}
	return -1
}

// leaf returns what a leaf package may import, and false for other packages.
func leaf(pkg string) ([]string, bool) {
	if may, ok := leaves[pkg]; ok {
		return may, true
	}
	top, _, _ := strings.Cut(pkg, "/")
	may, ok := leaves[top+"/"]
	return may, ok
}

// complaint returns why pkg must not import another package of ours, or "".
func complaint(pkg, imported string) string {
	if may, ok := leaf(pkg); ok {
		for _, m := range may {
			if imported == m || strings.HasSuffix(m, "/") && strings.HasPrefix(imported, m) {
				return ""
			}
		}
		return "a leaf package imports nothing of ours"
	}
	if strings.HasPrefix(imported, "tools/") || strings.HasPrefix(imported, "cmd/") && !strings.HasPrefix(pkg, "cmd/") {
		return "nobody imports a command"
	}
	from, to := rank(pkg), rank(imported)
	switch {
	case from < 0 || to < 0 || to < from:
		return ""
	case to == from && strings.HasSuffix(order[from], "/"):
		return ""
	}
	return fmt.Sprintf("imports point down: %s", strings.Join(order, " ← "))
}

type file struct {
	path    string
	pkg     string
	imports []string
	test    bool
}

// sources reads the imports of every Go file of the repository.
func sources(t *testing.T) []file {
	t.Helper()
	root := testdata.Root()
	var out []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := d.Name(); d.IsDir() && name != root && (strings.HasPrefix(base, ".") || base == "testdata" && name != filepath.Join(root, "internal", "testdata")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(rel), test: strings.HasSuffix(name, "_test.go")}
		f.pkg = path.Dir(f.path)
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imported)
		}
		out = append(out, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 20 {
		t.Fatalf("found only %d Go files below %s", len(out), root)
	}
	return out
}

func TestImportsPointOneWay(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, imported := range f.imports {
			ours, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			if why := complaint(f.pkg, ours); why != "" {
				t.Errorf("%s imports %s: %s", f.path, ours, why)
			}
		}
	}
}

var unsafeName = regexp.MustCompile(`_unsafe(_[a-z0-9]+)?\.go$`)

func TestVulkanAndUnsafeStayInTheirPlaces(t *testing.T) {
	for _, f := range sources(t) {
		for _, imported := range f.imports {
			switch {
			case imported == "C" && f.pkg != "engine/vk":
				t.Errorf("%s uses cgo: only engine/vk does", f.path)
			case imported == vulkanGo && f.pkg != "engine/vk":
				t.Errorf("%s imports vulkan-go: only engine/vk does", f.path)
			case imported == "unsafe" && !f.test && !unsafeName.MatchString(f.path):
				t.Errorf("%s imports unsafe: only files named *_unsafe.go (or *_unsafe_GOOS.go) do", f.path)
			}
		}
	}
}

func TestTheRuleItselfRefusesWhatItShould(t *testing.T) {
	tests := []struct {
		pkg, imported string
		good          bool
	}{
		{"memory", "engine/vk", true},
		{"engine/vk", "memory", false},
		{"swap", "engine", true},
		{"engine", "swap", false},
		{"engine", "engine/ops", false},
		{"models/dit", "engine/ops", true},
		{"models/dit", "models/weights", true},
		{"models/dit", "models/kandinsky5", false},
		{"models/kandinsky5", "models/dit", true},
		{"models/kandinsky5", "cmd/vkandinsky", false},
		{"cmd/vkandinsky", "models/kandinsky5", true},
		{"shaders", "shaders/spirv", true},
		{"shaders", "engine", false},
		{"configs", "internal/media", false},
		{"internal/media", "internal/progress", true},
		{"internal/media", "models/vae", false},
		{"engine", "tools/glslc", false},
		{"models/dit", "configs", true},
		{"models/verify", "models/tiny", true},
		{"models/kandinsky5", "models/tiny", false},
	}
	for _, tt := range tests {
		t.Run(tt.pkg+" to "+tt.imported, func(t *testing.T) {
			if why := complaint(tt.pkg, tt.imported); (why == "") != tt.good {
				t.Errorf("complaint is %q, want allowed %v", why, tt.good)
			}
		})
	}
}
