package injected

import "strings"

// mapped lists the libraries of a process's memory map, each once: lines end in a file's path, and a library's name
// has ".so" in it.
func mapped(maps string) []string {
	var out []string
	seen := map[string]bool{}
	for _, line := range strings.Split(maps, "\n") {
		at := strings.IndexByte(line, '/')
		if at < 0 {
			continue
		}
		path := strings.TrimSuffix(line[at:], " (deleted)")
		if strings.Contains(base(path), ".so") && !seen[path] {
			seen[path] = true
			out = append(out, path)
		}
	}
	return out
}
