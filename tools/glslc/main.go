// Command glslc compiles every variant of every compute shader and writes what the Go side needs to use them.
//
//	go run ./tools/glslc [flags] [stem…]      compile shaders/*.comp, or only the files named
//	go run ./tools/glslc -check               compile into memory and fail when what is committed is stale
//	go run ./tools/glslc -list                print every variant with its interface
//
// For shaders/matmul.comp it writes shaders/spv/NAME.spv per variant and shaders/matmul_gen.go with a string constant
// per variant (matmul_f32 → MatmulF32), MatmulPush (push constants, with Append) and MatmulSpec (specialization
// constants, with Values). Files that fail are all reported and keep what they had; the others are written all the
// same, and the exit status is 1. Files whose source, includes and compiler did not change are not compiled again
// unless -force or -check is given.
//
// # Variants
//
// A shader declares its variants in comment lines, best in its header. A file that declares none has one variant,
// named like the file.
//
//	//@variant matmul_f32 A=float B=float
//	//@variant attention_{X}_{MASK} X=f32|f16|bf16 MASK=full|causal T=type_{X}
//
// In words:
//
//   - The first word is the variant's name: the file's name without .comp, alone or followed by _ and a suffix, in
//     lower case.
//   - Every further word is KEY=value and becomes -DKEY=value, or KEY alone, which becomes -DKEY.
//   - A value may be a list a|b|c: the line then declares one variant per combination of all its lists. An empty
//     item is allowed.
//   - {KEY} in the name or in a value is replaced by that KEY's value.
//   - //@env vulkan1.3 sets glslc's --target-env for the variants declared after it (default vulkan1.2); SPIR-V 1.6
//     needs vulkan1.3.
//   - //@args -fpreserve-bindings adds glslc arguments for the variants declared after it.
//
// Includes are found in shaders/include. All variants of a file share one push-constant layout.
//
// # Staleness
//
// A generated file names the compiler and a digest of the source, its includes and the way of compiling. -check
// compares digests and Go source always, and SPIR-V bytes when the compiler at hand is the one that was used.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "glslc:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("glslc", flag.ExitOnError)
	checkOnly := flags.Bool("check", false, "write nothing; fail when committed files are stale")
	list := flags.Bool("list", false, "print the compiled variants and their interfaces")
	force := flags.Bool("force", false, "compile files that did not change, too")
	glslc := flags.String("glslc", "", "the compiler (default scripts/glslc.sh of the repository)")
	dir := flags.String("dir", "", "the shader folder (default shaders of the repository)")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	root, err := repository()
	if err != nil && (*glslc == "" || *dir == "") {
		return err
	}
	if *glslc == "" {
		*glslc = filepath.Join(root, "scripts", "glslc.sh")
	}
	if *dir == "" {
		*dir = filepath.Join(root, "shaders")
	}
	*dir = short(*dir)
	t := &tree{dir: *dir, out: os.Stdout}
	if *list {
		return t.list()
	}
	c, err := newCompiler(ctx, *glslc, filepath.Join(*dir, "include"))
	if err != nil {
		return err
	}
	t.compiler = c
	if *checkOnly {
		return t.check(ctx, flags.Args())
	}
	return t.build(ctx, flags.Args(), *force)
}

// repository returns the folder with go.mod at or above the working folder.
func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("no go.mod at or above the working folder: run it inside the repository")
		}
		dir = up
	}
}

// short returns a path relative to the working folder where that is shorter to read.
func short(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	if rel, err := filepath.Rel(wd, path); err == nil && len(rel) < len(path) {
		return rel
	}
	return path
}
