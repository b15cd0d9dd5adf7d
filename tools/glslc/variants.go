package main

import (
	"fmt"
	"regexp"
	"strings"
)

// define is one preprocessor macro of a variant; value is empty for a bare -DKEY.
type define struct {
	key, value string
}

// variant is one module to compile.
type variant struct {
	name    string
	env     string
	args    []string
	defines []define
	line    int
}

const defaultEnv = "vulkan1.2"

var (
	variantName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)
	macroName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	placeholder = regexp.MustCompile(`\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	targetEnv   = regexp.MustCompile(`^vulkan1\.[0-9]$`)
)

// parseVariants reads the //@ lines of a shader; the package comment describes them. stem is the file's name without
// extension: it is the default variant and the prefix of every variant's name.
func parseVariants(stem, source string) ([]variant, error) {
	var out []variant
	env, args, said := defaultEnv, []string(nil), false
	for i, line := range strings.Split(source, "\n") {
		directive, ok := strings.CutPrefix(strings.TrimSpace(line), "//@")
		if !ok {
			continue
		}
		fields := strings.Fields(directive)
		if len(fields) == 0 {
			return nil, fmt.Errorf("line %d: empty //@ line", i+1)
		}
		switch fields[0] {
		case "variant":
			said = true
			expanded, err := expand(stem, fields[1:])
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", i+1, err)
			}
			for _, v := range expanded {
				v.env, v.args, v.line = env, args, i+1
				out = append(out, v)
			}
		case "env":
			if len(fields) != 2 || !targetEnv.MatchString(fields[1]) {
				return nil, fmt.Errorf("line %d: //@env wants one target such as vulkan1.2 or vulkan1.3", i+1)
			}
			env = fields[1]
		case "args":
			args = fields[1:]
		default:
			return nil, fmt.Errorf("line %d: unknown //@%s, want //@variant, //@env or //@args", i+1, fields[0])
		}
	}
	if !said {
		out = append(out, variant{name: stem, env: env, args: args})
	}
	return out, noDuplicates(out)
}

func noDuplicates(list []variant) error {
	lines := map[string]int{}
	for _, v := range list {
		if first, ok := lines[v.name]; ok {
			return fmt.Errorf("line %d: variant %s is declared on line %d already", v.line, v.name, first)
		}
		lines[v.name] = v.line
	}
	return nil
}

// expand makes the variants of one line: the cross product of its lists, the last list varying fastest.
func expand(stem string, fields []string) ([]variant, error) {
	if len(fields) == 0 {
		return nil, fmt.Errorf("//@variant wants a name")
	}
	choices := [][]define{nil}
	seen := map[string]bool{}
	for _, field := range fields[1:] {
		key, list, _ := strings.Cut(field, "=")
		if !macroName.MatchString(key) {
			return nil, fmt.Errorf("%q is no KEY or KEY=value", field)
		}
		if seen[key] {
			return nil, fmt.Errorf("%s is given twice", key)
		}
		seen[key] = true
		var next [][]define
		for _, chosen := range choices {
			for _, value := range strings.Split(list, "|") {
				next = append(next, append(append([]define(nil), chosen...), define{key, value}))
			}
		}
		choices = next
	}
	var out []variant
	for _, defines := range choices {
		v, err := substitute(stem, fields[0], defines)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}

// substitute replaces {KEY} in the name and in the values.
func substitute(stem, template string, raw []define) (variant, error) {
	values := map[string]string{}
	for _, d := range raw {
		values[d.key] = d.value
	}
	var resolve func(text string, depth int) (string, error)
	resolve = func(text string, depth int) (string, error) {
		if depth > len(raw) {
			return "", fmt.Errorf("%q refers to itself", text)
		}
		var failed error
		out := placeholder.ReplaceAllStringFunc(text, func(match string) string {
			value, ok := values[match[1:len(match)-1]]
			if !ok {
				failed = fmt.Errorf("%s names no KEY of the line", match)
				return ""
			}
			inner, err := resolve(value, depth+1)
			if err != nil {
				failed = err
			}
			return inner
		})
		return out, failed
	}
	name, err := resolve(template, 0)
	if err != nil {
		return variant{}, err
	}
	if !variantName.MatchString(name) {
		return variant{}, fmt.Errorf("variant name %q is not lower_case_with_digits", name)
	}
	if name != stem && !strings.HasPrefix(name, stem+"_") {
		return variant{}, fmt.Errorf("variant name %q must be %q or begin with %q", name, stem, stem+"_")
	}
	v := variant{name: name}
	for _, d := range raw {
		value, err := resolve(d.value, 0)
		if err != nil {
			return variant{}, err
		}
		v.defines = append(v.defines, define{d.key, value})
	}
	return v, nil
}
