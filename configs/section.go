package configs

import (
	"fmt"
	"math"
	"sort"
	"strings"

	"gopkg.in/yaml.v3"
)

// section reads one yaml mapping key by key. Keys nobody asked for are unknown; close reports them.
type section struct {
	r     *report
	path  string // full key of the mapping, empty at the top
	line  int
	nodes map[string]*yaml.Node
	asked []string
}

func (s *section) full(key string) string {
	if s.path == "" {
		return key
	}
	return s.path + "." + key
}

// newSection reads the keys of a mapping node. A nil node or a node that is no mapping gives an empty section, so
// that reading can go on and unknown keys elsewhere are still found.
func newSection(r *report, path string, n *yaml.Node) *section {
	s := &section{r: r, path: path, nodes: map[string]*yaml.Node{}}
	if n == nil {
		return s
	}
	n = target(n)
	s.line = n.Line
	if n.Kind != yaml.MappingNode {
		r.fail(n.Line, path, "must be a section of keys, got %s", describe(n))
		return s
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := target(n.Content[i]), n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			r.fail(k.Line, path, "a key must be a plain word, got %s", describe(k))
			continue
		}
		if _, twice := s.nodes[k.Value]; twice {
			r.fail(k.Line, s.full(k.Value), "the key is given twice (first on line %d)", r.lines[s.full(k.Value)])
			continue
		}
		s.nodes[k.Value] = v
		r.lines[s.full(k.Value)] = k.Line
	}
	return s
}

// close reports every key that was never asked for.
func (s *section) close() {
	known := map[string]bool{}
	for _, k := range s.asked {
		known[k] = true
	}
	for k := range s.nodes {
		if known[k] {
			continue
		}
		msg := "unknown key"
		if near := nearest(k, s.asked); near != "" {
			msg += fmt.Sprintf(" (did you mean %s?)", near)
		}
		s.r.fail(s.r.lines[s.full(k)], s.full(k), "%s", msg)
	}
}

// get returns the node of a key, nil when absent.
func (s *section) get(key string, required bool) *yaml.Node {
	s.asked = append(s.asked, key)
	n, ok := s.nodes[key]
	if !ok {
		if required {
			s.r.missing = append(s.r.missing, &Error{File: s.r.file, Line: max(s.line, 1), Key: s.full(key), Msg: "the key is missing"})
		}
		return nil
	}
	return target(n)
}

func (s *section) section(key string, required bool) *section {
	return newSection(s.r, s.full(key), s.get(key, required))
}

func (s *section) has(key string) bool {
	_, ok := s.nodes[key]
	return ok
}

func (s *section) wrongType(key string, n *yaml.Node, want string) {
	s.r.fail(n.Line, s.full(key), "must be %s, got %s", want, describe(n))
}

func (s *section) int(key string, required bool, dst *int) {
	if n := s.get(key, required); n != nil {
		if v, ok := intValue(n); ok {
			*dst = v
		} else {
			s.wrongType(key, n, "a whole number")
		}
	}
}

func (s *section) float(key string, required bool, dst *float64) {
	if n := s.get(key, required); n != nil {
		if v, ok := floatValue(n); ok {
			*dst = v
		} else {
			s.wrongType(key, n, "a number")
		}
	}
}

func (s *section) bool(key string, required bool, dst *bool) {
	if n := s.get(key, required); n != nil {
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.Decode(dst) != nil {
			s.wrongType(key, n, "true or false")
		}
	}
}

func (s *section) string(key string, required bool, dst *string) {
	if n := s.get(key, required); n != nil {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
			s.wrongType(key, n, "text")
			return
		}
		*dst = n.Value
	}
}

// list returns the elements of a sequence, nil when absent or of the wrong type or length (count < 0: any length).
func (s *section) list(key string, required bool, count int) []*yaml.Node {
	n := s.get(key, required)
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		s.wrongType(key, n, "a list of numbers")
		return nil
	}
	if count >= 0 && len(n.Content) != count {
		s.r.fail(n.Line, s.full(key), "must be a list of %d numbers, got %d", count, len(n.Content))
		return nil
	}
	return n.Content
}

func (s *section) ints3(key string, required bool, dst *[3]int) {
	for i, n := range s.list(key, required, 3) {
		v, ok := intValue(target(n))
		if !ok {
			s.wrongType(key, target(n), "a list of whole numbers")
			return
		}
		dst[i] = v
	}
}

func (s *section) floats(key string, required bool, count int) []float64 {
	nodes := s.list(key, required, count)
	if nodes == nil {
		return nil
	}
	out := make([]float64, 0, len(nodes))
	for _, n := range nodes {
		v, ok := floatValue(target(n))
		if !ok {
			s.wrongType(key, target(n), "a list of numbers")
			return nil
		}
		out = append(out, v)
	}
	return out
}

// target follows an alias to the node it stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

func intValue(n *yaml.Node) (int, bool) {
	var v int
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || n.Decode(&v) != nil {
		return 0, false
	}
	return v, true
}

func floatValue(n *yaml.Node) (float64, bool) {
	var v float64
	if t := n.ShortTag(); n.Kind != yaml.ScalarNode || (t != "!!int" && t != "!!float") || n.Decode(&v) != nil {
		return 0, false
	}
	return v, !math.IsNaN(v) && !math.IsInf(v, 0)
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "nothing"
	}
	const most = 40
	if v := []rune(n.Value); len(v) > most {
		return fmt.Sprintf("%q…", string(v[:most]))
	}
	return fmt.Sprintf("%q", n.Value)
}

// nearest returns the known key at most two edits away from the one given, empty when there is none.
func nearest(key string, known []string) string {
	if len(key) > 64 {
		return ""
	}
	known = append([]string(nil), known...)
	sort.Strings(known)
	best, bestDist := "", 3
	for _, k := range known {
		if d := editDistance(strings.ToLower(key), strings.ToLower(k)); d < bestDist && d < len(k) {
			best, bestDist = k, d
		}
	}
	return best
}

// editDistance is the Levenshtein distance of two short words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
}
