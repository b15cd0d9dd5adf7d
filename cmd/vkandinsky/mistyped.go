package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// flagError says what is wrong with a flag, names the one that was probably meant, and where flags are listed.
func (cmd *command) flagError(err error) error {
	text := err.Error()
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown):
		if meant := nearest(unknown.GetSpecifiedName(), cmd.flags.names()); meant != "" && unknown.GetSpecifiedShortnames() == "" {
			text += fmt.Sprintf(": did you mean --%s?", meant)
		}
	case errors.As(err, &value):
		text = fmt.Sprintf("--%s %q: %s", value.GetFlag().Name, value.GetValue(), valueText(value))
	}
	return badInput(fmt.Errorf("%s: %s (vkandinsky %s --help lists the flags)", cmd.name, text, cmd.name))
}

// valueText says what a flag takes where the reason would be the number parser's, which names the parser.
func valueText(e *pflag.InvalidValueError) string {
	var number *strconv.NumError
	if !errors.As(e, &number) {
		return e.Unwrap().Error()
	}
	if errors.Is(number.Err, strconv.ErrRange) {
		return "the number is too large"
	}
	switch e.GetFlag().Value.Type() {
	case "bool":
		return "write true or false, or the flag alone"
	case "uint64":
		return "use a whole number from 0 on"
	case "int":
		return "use a whole number"
	}
	return "use a number"
}

// names are those of all flags.
func (f *flags) names() (names []string) {
	for _, g := range f.groups {
		g.set.VisitAll(func(flag *pflag.Flag) { names = append(names, flag.Name) })
	}
	return names
}

// unknownCommand says that there is no such command (or measurement), which one was probably meant, and where they are listed.
func unknownCommand(kind, name string, known []*command, where string) error {
	var names []string
	for _, c := range known {
		names = append(names, c.name)
	}
	meant := ""
	if n := nearest(name, names); n != "" {
		meant = fmt.Sprintf("did you mean %s? ", n)
	}
	return badInputf("unknown %s %q: %s%s lists them", kind, name, meant, where)
}

// nearest returns the name that a mistyped one was probably meant to be, of several the first; "" where none is near: at most
// one letter in three is wrong, missing, too many or beside its place.
func nearest(name string, names []string) (found string) {
	name = string(dashes(nil, name))
	least := len(name)/3 + 1
	for _, n := range names {
		if d := edits(name, n); d < least {
			found, least = n, d
		}
	}
	return found
}

// edits counts the letters to replace, insert, leave out or swap with their neighbour that make b of a (optimal string
// alignment).
func edits(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now := make([]int, len(b)+1)
		now[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			now[j] = min(replaced, last[j]+1, now[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
		before, last = last, now
	}
	return last[len(b)]
}
