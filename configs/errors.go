package configs

import (
	"fmt"
	"sort"
	"strings"
	"unicode"
)

// Error is one mistake in a configuration file. Its text is one line, "FILE:LINE: KEY: what is wrong".
type Error struct {
	File string
	Line int    // 1-based; 0 when the mistake has no place
	Key  string // full key such as "model.dit_params.ff_dim"; empty when the mistake is not at a key
	Msg  string
}

// Error implements error.
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", s, e.Line)
	}
	if e.Key != "" {
		s += ": " + e.Key
	}
	// Keys and values come from the file: a line break in one must not break the line.
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == '\u2028' || c == '\u2029' {
			return ' '
		}
		return c
	}, s+": "+e.Msg)
}

// report collects mistakes; the first one is what the user sees.
type report struct {
	file    string
	lines   map[string]int // full key to line, filled while reading, used when values are checked
	wrong   []*Error
	missing []*Error // kept apart: a misspelt key is both unknown and missing, and the former says more
}

func (r *report) fail(line int, key, format string, args ...any) {
	r.wrong = append(r.wrong, &Error{File: r.file, Line: line, Key: key, Msg: fmt.Sprintf(format, args...)})
}

// bad reports a value that was read but cannot be meant. When the key is absent (its default is at fault, or a
// caller built the Config) the line stays 0.
func (r *report) bad(key, format string, args ...any) {
	r.fail(r.lines[key], key, format, args...)
}

// err returns the mistake nearest to the top of the file, nil when there is none.
func (r *report) err() error {
	all := r.wrong
	if len(all) == 0 {
		all = r.missing
	}
	if len(all) == 0 {
		return nil
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].Line < all[j].Line })
	return all[0]
}
