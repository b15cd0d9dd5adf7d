package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
)

func main() {
	os.Exit(run(catchInterrupts(context.Background()), os.Args[1:], os.Stdout, os.Stderr))
}

// run carries out a command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (status int) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(stderr, "vkandinsky: internal error: %s, please report\n%s", oneLine(fmt.Sprint(p)), debug.Stack())
			status = exitBug
		}
	}()
	err := dispatch(ctx, args, &console{out: stdout, err: stderr})
	if err == nil {
		return 0
	}
	status = exitStatus(ctx, err)
	if more := (interruption{}); status == exitInterrupted && !errors.As(err, &more) {
		fmt.Fprintln(stderr, "vkandinsky: interrupted")
		return status
	}
	fmt.Fprintln(stderr, "vkandinsky: "+oneLine(err.Error()+remedy(err)))
	return status
}

// dispatch finds the subcommand. Without one the line is for generate, as upstream's users have it.
func dispatch(ctx context.Context, args []string, c *console) error {
	if len(args) == 0 {
		printOverview(c.err)
		return badInput(fmt.Errorf("no command and no flags given"))
	}
	switch name := args[0]; {
	case name == "help" || name == "--help" || name == "-h":
		return help(c, args[1:])
	case name == "--version":
		return execute(ctx, versionCommand(), args[1:], c)
	case strings.HasPrefix(name, "-"):
		return execute(ctx, generateCommand(), args, c)
	default:
		cmd := findCommand(name)
		if cmd == nil {
			return unknownCommand("command", name, commands(), "vkandinsky help")
		}
		return execute(ctx, cmd, args[1:], c)
	}
}

// oneLine joins the lines of a text: an error is one line, whatever it wraps.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	for k, line := range lines {
		lines[k] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "; ")
}
