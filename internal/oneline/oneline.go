// Package oneline joins errors into one line of text, which is what a user gets to read.
package oneline

import "strings"

// Join returns an error that wraps all that are not nil, or nil. Unlike errors.Join its text is one line, "a; b", and says
// nothing twice: closing what failed often fails for the same reason.
func Join(errs ...error) error {
	var list []error
	for _, err := range errs {
		if err != nil {
			list = append(list, err)
		}
	}
	switch len(list) {
	case 0:
		return nil
	case 1:
		return list[0]
	}
	return &joined{list}
}

type joined struct{ errs []error }

func (j *joined) Unwrap() []error { return j.errs }

func (j *joined) Error() string {
	var texts []string
next:
	for _, err := range j.errs {
		text := Text(err.Error())
		for _, said := range texts {
			if strings.Contains(said, text) {
				continue next
			}
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, "; ")
}

// Text puts a text of several lines on one.
func Text(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for k, line := range lines {
		lines[k] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "; ")
}
