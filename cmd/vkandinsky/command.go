package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// command is one subcommand. It is made anew for every run, so that flags keep nothing from an earlier one.
type command struct {
	name     string
	args     string // what may follow the flags, for the usage line
	summary  string // one line
	about    string // a paragraph for --help
	examples []string
	flags    flags
	subs     []*command // commands of its own, named by the first word
	run      func(ctx context.Context, c *console, args []string) error
}

// flags are a command's flags in groups, each with a title in the help.
type flags struct {
	groups []flagGroup
	given  [][2]string // what the command line has: names and values, in its order
}

type flagGroup struct {
	title string
	set   *pflag.FlagSet
}

// group begins a group of flags.
func (f *flags) group(title string) *pflag.FlagSet {
	set := newFlagSet(title)
	f.groups = append(f.groups, flagGroup{title, set})
	return set
}

func newFlagSet(name string) *pflag.FlagSet {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SetNormalizeFunc(dashes)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	return set
}

// dashes lets upstream's flags be written as they are there: --video_duration is --video-duration.
func dashes(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	return pflag.NormalizedName(strings.ReplaceAll(name, "_", "-"))
}

// parse reads a command line into the flags' variables and returns what is left of it.
func (f *flags) parse(name string, args []string) ([]string, error) {
	all := newFlagSet(name)
	for _, g := range f.groups {
		all.AddFlagSet(g.set)
	}
	err := all.ParseAll(args, func(flag *pflag.Flag, value string) error {
		f.given = append(f.given, [2]string{flag.Name, value})
		return all.Set(flag.Name, value)
	})
	if err != nil {
		return nil, err
	}
	return all.Args(), nil
}

// lookup finds a flag by its name; nil where there is none.
func (f *flags) lookup(name string) *pflag.Flag {
	for _, g := range f.groups {
		if flag := g.set.Lookup(name); flag != nil {
			return flag
		}
	}
	return nil
}

// set gives a flag a value as the command line would.
func (f *flags) set(name, value string) error {
	for _, g := range f.groups {
		if g.set.Lookup(name) != nil {
			f.given = append(f.given, [2]string{name, value})
			return g.set.Set(name, value)
		}
	}
	return fmt.Errorf("unknown flag --%s", name)
}

// changed says whether the command line gave a flag.
func (f *flags) changed(name string) bool {
	flag := f.lookup(name)
	return flag != nil && flag.Changed
}

// commands lists the subcommands in the order of the help.
func commands() []*command {
	return []*command{
		generateCommand(), compareCommand(), planCommand(), verifyCommand(), doctorCommand(), tuneCommand(), benchCommand(), devicesCommand(), inspectCommand(), convertCommand(), synthCommand(), versionCommand(),
	}
}

func findCommand(name string) *command { return find(commands(), name) }

func find(list []*command, name string) *command {
	for _, c := range list {
		if c.name == name {
			return c
		}
	}
	return nil
}

// sub returns the command that the first word names among the command's own, and the words after it; nil when there is none.
func (cmd *command) sub(args []string) (*command, []string) {
	if len(args) == 0 {
		return nil, args
	}
	found := find(cmd.subs, args[0])
	if found == nil {
		return nil, args
	}
	inner := *found
	inner.name = cmd.name + " " + found.name
	return &inner, args[1:]
}

// execute parses a command's flags and runs it.
func execute(ctx context.Context, cmd *command, args []string, c *console) error {
	if sub, rest := cmd.sub(args); sub != nil {
		return execute(ctx, sub, rest, c)
	}
	rest, err := cmd.flags.parse(cmd.name, args)
	if errors.Is(err, pflag.ErrHelp) {
		return printHelp(c.out, cmd)
	}
	if err != nil {
		return cmd.flagError(err)
	}
	return cmd.run(ctx, c, rest)
}

// noArguments refuses words that are no flags.
func noArguments(args []string) error {
	if len(args) > 0 {
		return badInput(fmt.Errorf("unexpected argument %q: flags begin with -- and values with blanks need quotes", args[0]))
	}
	return nil
}
