package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/vkandinsky/vkandinsky/shaders/spirv"
)

// tree is the shader folder: sources in dir, modules in dir/spv, generated Go beside the sources.
type tree struct {
	dir      string
	out      io.Writer
	compiler *compiler
}

func (t *tree) module(name string) string { return filepath.Join(t.dir, "spv", name+".spv") }
func (t *tree) goFile(stem string) string { return filepath.Join(t.dir, stem+"_gen.go") }

// load reads all shaders and checks that no two files declare one variant. Problems with one file do not hide
// those of another.
func (t *tree) load() ([]*shaderFile, error) {
	paths, err := filepath.Glob(filepath.Join(t.dir, "*.comp"))
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("no *.comp in %s", t.dir)
	}
	var (
		files  []*shaderFile
		errs   []error
		owners = map[string]string{}
	)
	for _, path := range paths {
		f, err := loadFile(path, filepath.Join(t.dir, "include"))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, v := range f.variants {
			if other, ok := owners[v.name]; ok {
				errs = append(errs, fmt.Errorf("%s: variant %s belongs to %s already", path, v.name, other))
			}
			owners[v.name] = path
		}
		files = append(files, f)
	}
	return files, errors.Join(errs...)
}

// choose keeps the files with the given stems, all when there are none.
func choose(files []*shaderFile, stems []string) ([]*shaderFile, error) {
	if len(stems) == 0 {
		return files, nil
	}
	var out []*shaderFile
	for _, stem := range stems {
		stem = strings.TrimSuffix(filepath.Base(stem), ".comp")
		i := slices.IndexFunc(files, func(f *shaderFile) bool { return f.stem == stem })
		if i < 0 {
			return nil, fmt.Errorf("no shader %s.comp", stem)
		}
		out = append(out, files[i])
	}
	return out, nil
}

// build compiles what changed and writes it. Files that fail keep their old output.
func (t *tree) build(ctx context.Context, stems []string, force bool) error {
	all, loadErr := t.load()
	files, err := choose(all, stems)
	if err != nil {
		return errors.Join(loadErr, err)
	}
	var todo []*shaderFile
	for _, f := range files {
		if force || !t.current(f) {
			todo = append(todo, f)
		}
	}
	failures := t.compiler.compile(ctx, todo)
	failed := map[*shaderFile]bool{}
	for _, f := range failures {
		failed[f.file] = true
	}
	errs := []error{loadErr}
	modules := 0
	for _, f := range todo {
		if failed[f] {
			continue
		}
		if err := t.write(f); err != nil {
			errs = append(errs, err)
			continue
		}
		modules += len(f.variants)
		fmt.Fprintf(t.out, "%s: %d variants\n", f.path, len(f.variants))
	}
	if len(failures) > 0 {
		errs = append(errs, fmt.Errorf("%d variants failed:\n%s", len(failures), report(failures)))
	}
	if loadErr == nil && len(stems) == 0 {
		for _, path := range t.orphans(all) {
			fmt.Fprintf(t.out, "%s: removed, no shader declares it\n", path)
			errs = append(errs, os.Remove(path))
		}
	}
	fmt.Fprintf(t.out, "%d modules written, %d of %d files were current\n", modules, len(files)-len(todo), len(files))
	return errors.Join(errs...)
}

// current tells whether a file's output was made from this source by this compiler and is all there.
func (t *tree) current(f *shaderFile) bool {
	digest, version := t.header(f.stem)
	if digest != f.digest || version != t.compiler.version {
		return false
	}
	for _, v := range f.variants {
		if _, err := os.Stat(t.module(v.name)); err != nil {
			return false
		}
	}
	return true
}

// header reads the digest and compiler version out of a generated Go file, empty when there is none.
func (t *tree) header(stem string) (digest, version string) {
	source, err := os.ReadFile(t.goFile(stem))
	if err != nil {
		return "", ""
	}
	for _, line := range strings.SplitN(string(source), "\n", 6) {
		if s, ok := strings.CutPrefix(line, digestPrefix); ok {
			digest = s
		}
		if s, ok := strings.CutPrefix(line, compilerPrefix); ok {
			version = s
		}
	}
	return digest, version
}

func (t *tree) write(f *shaderFile) error {
	g, err := generate(f, t.compiler.version)
	if err != nil {
		return err
	}
	// Modules first: the Go file's digest vouches for them.
	for i, v := range f.variants {
		if err := writeFile(t.module(v.name), f.modules[i]); err != nil {
			return err
		}
	}
	return writeFile(t.goFile(f.stem), g.source)
}

// writeFile replaces a file in one step, so that a reader (another build) never sees half of it.
func writeFile(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(0o644), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// orphans lists output that no shader declares any more.
func (t *tree) orphans(files []*shaderFile) []string {
	known := map[string]bool{}
	for _, f := range files {
		known[t.goFile(f.stem)] = true
		for _, v := range f.variants {
			known[t.module(v.name)] = true
		}
	}
	modules, _ := filepath.Glob(t.module("*"))
	sources, _ := filepath.Glob(t.goFile("*"))
	var out []string
	for _, path := range append(modules, sources...) {
		if !known[path] {
			out = append(out, path)
		}
	}
	return out
}

// check compiles everything into memory and lists what differs from the committed files.
func (t *tree) check(ctx context.Context, stems []string) error {
	all, err := t.load()
	if err != nil {
		return err
	}
	files, err := choose(all, stems)
	if err != nil {
		return err
	}
	if failures := t.compiler.compile(ctx, files); len(failures) > 0 {
		return fmt.Errorf("%d variants failed:\n%s", len(failures), report(failures))
	}
	var stale []string
	modules, compared := 0, 0
	owners := map[string]string{}
	for _, f := range files {
		problems, n, err := t.checkFile(f, owners)
		if err != nil {
			return err
		}
		stale = append(stale, problems...)
		modules += len(f.variants)
		compared += n
	}
	if len(stems) == 0 {
		for _, path := range t.orphans(all) {
			stale = append(stale, path+": no shader declares it")
		}
	}
	if len(stale) > 0 {
		sort.Strings(stale)
		return fmt.Errorf("stale, run make shaders:\n%s", strings.Join(stale, "\n"))
	}
	fmt.Fprintf(t.out, "%d shaders, %d modules current; %d compared byte for byte with %s\n",
		len(files), modules, compared, t.compiler.version)
	return nil
}

// checkFile returns what is stale about one file and how many modules it compared byte for byte.
func (t *tree) checkFile(f *shaderFile, owners map[string]string) (stale []string, compared int, err error) {
	digest, version := t.header(f.stem)
	// Generating with the recorded version makes the Go source comparable under any compiler.
	g, err := generate(f, version)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range g.names {
		if other, ok := owners[name]; ok {
			return nil, 0, fmt.Errorf("%s: Go name %s is taken by %s", f.path, name, other)
		}
		owners[name] = f.path
	}
	if digest != f.digest {
		stale = append(stale, t.goFile(f.stem)+": made from another source")
	} else if old, err := os.ReadFile(t.goFile(f.stem)); err != nil || !bytes.Equal(old, g.source) {
		stale = append(stale, t.goFile(f.stem)+": differs")
	}
	for i, v := range f.variants {
		old, err := os.ReadFile(t.module(v.name))
		switch {
		case err != nil:
			stale = append(stale, t.module(v.name)+": missing")
		case version != t.compiler.version:
		case !bytes.Equal(old, f.modules[i]):
			stale = append(stale, t.module(v.name)+": differs")
		default:
			compared++
		}
	}
	return stale, compared, nil
}

// list prints the interfaces of the compiled modules.
func (t *tree) list() error {
	paths, err := filepath.Glob(t.module("*"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		code, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		in, err := spirv.Reflect(code)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Fprintf(t.out, "%s: %d bytes, local size %v, push %d bytes\n",
			strings.TrimSuffix(filepath.Base(path), ".spv"), len(code), in.LocalSize, in.PushSize)
		for _, b := range in.Bindings {
			fmt.Fprintf(t.out, "  binding %d %s %s\n", b.Index, b.Name, b.Access)
		}
		for _, s := range in.Spec {
			fmt.Fprintf(t.out, "  spec %d %s = %d\n", s.ID, s.Name, s.Default)
		}
		fmt.Fprintf(t.out, "  needs %s\n", strings.Join(in.Capabilities, " "))
	}
	return nil
}
