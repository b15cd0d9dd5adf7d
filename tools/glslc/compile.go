package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"sync"

	"github.com/vkandinsky/vkandinsky/shaders/spirv"
)

// generation is part of every digest: raise it when the way modules are compiled or Go is written changes.
const generation = "1"

// shaderFile is one .comp file and what came of it.
type shaderFile struct {
	stem     string
	path     string
	digest   string
	variants []variant
	// modules and interfaces are parallel to variants, filled by compile.
	modules    [][]byte
	interfaces []spirv.Interface
}

// compiler runs glslc.
type compiler struct {
	glslc   string
	version string
	include string
}

func newCompiler(ctx context.Context, glslc, include string) (*compiler, error) {
	out, err := exec.CommandContext(ctx, glslc, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot run %s: %w (scripts/modern-vulkan.sh fetches one)", glslc, withStderr(err))
	}
	version := strings.Join(strings.Fields(strings.Split(string(out), "\n\n")[0]), " ")
	return &compiler{glslc: glslc, version: version, include: include}, nil
}

func withStderr(err error) error {
	if exit, ok := err.(*exec.ExitError); ok && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}

// loadFile reads a shader and its variants. Errors carry the path.
func loadFile(path, include string) (*shaderFile, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f := &shaderFile{stem: strings.TrimSuffix(filepath.Base(path), ".comp"), path: path}
	if !variantName.MatchString(f.stem) {
		return nil, fmt.Errorf("%s: file name is not lower_case_with_digits.comp", path)
	}
	if f.variants, err = parseVariants(f.stem, string(source)); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.digest, err = digest(path, include)
	return f, err
}

var includeLine = regexp.MustCompile(`(?m)^\s*#\s*include\s+["<]([^">]+)[">]`)

// digest identifies everything that decides a file's modules apart from the compiler: the source, with the variants
// in its header, and all it includes.
func digest(path, include string) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, generation)
	seen := map[string]bool{}
	var add func(path string) error
	add = func(path string) error {
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintf(hash, "%s %d\n%s", filepath.Base(path), len(source), source)
		for _, m := range includeLine.FindAllStringSubmatch(string(source), -1) {
			next := filepath.Join(include, m[1])
			if seen[next] {
				continue
			}
			seen[next] = true
			if err := add(next); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	}
	if err := add(path); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// failure is one variant that did not compile.
type failure struct {
	file    *shaderFile
	variant string
	text    string
}

// compile fills modules and interfaces of all files, on all cores, and returns every failure.
func (c *compiler) compile(ctx context.Context, files []*shaderFile) []failure {
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		failures []failure
		slots    = make(chan struct{}, runtime.NumCPU())
	)
	for _, f := range files {
		f.modules = make([][]byte, len(f.variants))
		f.interfaces = make([]spirv.Interface, len(f.variants))
		for i := range f.variants {
			wg.Add(1)
			slots <- struct{}{}
			go func() {
				defer wg.Done()
				defer func() { <-slots }()
				if err := c.compileVariant(ctx, f, i); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failures = append(failures, failure{f, f.variants[i].name, err.Error()})
				}
			}()
		}
	}
	wg.Wait()
	sort.Slice(failures, func(i, j int) bool { return failures[i].variant < failures[j].variant })
	return failures
}

func (c *compiler) compileVariant(ctx context.Context, f *shaderFile, i int) error {
	v := f.variants[i]
	// -g keeps the names that reflection needs through the optimiser; Strip removes the rest of what it adds.
	args := []string{"-g", "-O", "-Werror", "--target-env=" + v.env, "-fshader-stage=compute", "-I", c.include}
	args = append(args, v.args...)
	for _, d := range v.defines {
		if d.value == "" {
			args = append(args, "-D"+d.key)
			continue
		}
		args = append(args, "-D"+d.key+"="+d.value)
	}
	cmd := exec.CommandContext(ctx, c.glslc, append(args, "-o", "-", f.path)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	code, err := cmd.Output()
	if err != nil {
		if text := strings.TrimSpace(stderr.String()); text != "" {
			return fmt.Errorf("%s", text)
		}
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if f.modules[i], err = spirv.Strip(code); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	if f.interfaces[i], err = spirv.Reflect(f.modules[i]); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return check(f.path, f.interfaces[i])
}

// maxPush is what every Vulkan device takes.
const maxPush = 128

func check(path string, in spirv.Interface) error {
	if in.PushSize > maxPush {
		return fmt.Errorf("%s: %d bytes of push constants, devices need take only %d", path, in.PushSize, maxPush)
	}
	for _, s := range in.Spec {
		if s.Name == "" {
			return fmt.Errorf("%s: specialization constant %d has no name", path, s.ID)
		}
		if s.Type == spirv.Bool && s.Default != 0 {
			return fmt.Errorf("%s: bool specialization constant %s must default to false: Go's zero value keeps the default", path, s.Name)
		}
	}
	return nil
}

// report prints failures, one text once with all variants that gave it.
func report(failures []failure) string {
	var out strings.Builder
	variants := map[string][]string{}
	var order []string
	for _, f := range failures {
		if variants[f.text] == nil {
			order = append(order, f.text)
		}
		variants[f.text] = append(variants[f.text], f.variant)
	}
	for _, text := range order {
		fmt.Fprintf(&out, "%s\n  in variant %s\n", text, strings.Join(variants[text], ", "))
	}
	return out.String()
}
