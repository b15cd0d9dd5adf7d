package main

import (
	"fmt"
	"io"
	"strings"
)

// help prints the overview, or the help of the command named.
func help(c *console, args []string) error {
	if len(args) == 0 {
		printOverview(c.out)
		return nil
	}
	cmd := findCommand(args[0])
	if cmd == nil {
		return unknownCommand("command", args[0], commands(), "vkandinsky help")
	}
	if sub, rest := cmd.sub(args[1:]); sub != nil && len(rest) == 0 {
		cmd = sub
	} else if len(args) > 1 && len(cmd.subs) > 0 {
		return unknownCommand("command", strings.Join(args, " "), cmd.subs, "vkandinsky help "+cmd.name)
	}
	return printHelp(c.out, cmd)
}

func printOverview(w io.Writer) {
	fmt.Fprint(w, `vkandinsky generates videos with Kandinsky 5.0 on any GPU that has a Vulkan driver.

usage: vkandinsky [COMMAND] [flags]

`)
	var rows []string
	for _, cmd := range commands() {
		rows = append(rows, "  "+cmd.name+"\t"+cmd.summary)
	}
	_ = table(w, append(rows, "  help\tthis list, or the help of a command"))
	fmt.Fprint(w, `
Without a command the flags are generate's. A first video, by the small model inside the program:
  vkandinsky generate --prompt "a red circle moves to the right"
A published model, once it is downloaded:
  vkandinsky --config configs/config_5s_i2v_pro_20b.yaml --prompt "The dragon breathes fire." --image dragon.jpg

vkandinsky COMMAND --help shows a command's flags and examples. Flags may be written with dashes or underscores.
`)
}

func printHelp(w io.Writer, cmd *command) error {
	fmt.Fprintf(w, "usage: vkandinsky %s [flags]", cmd.name)
	if cmd.args != "" {
		fmt.Fprint(w, " "+cmd.args)
	}
	fmt.Fprintf(w, "\n\n%s\n", cmd.about)
	if len(cmd.subs) > 0 {
		fmt.Fprintf(w, "\nCommands, each with --help:\n")
		var rows []string
		for _, s := range cmd.subs {
			rows = append(rows, fmt.Sprintf("  %s %s\t%s", cmd.name, s.name, s.summary))
		}
		_ = table(w, rows)
	}
	for _, g := range cmd.flags.groups {
		fmt.Fprintf(w, "\n%s:\n%s", g.title, g.set.FlagUsagesWrapped(110))
	}
	if len(cmd.examples) > 0 {
		fmt.Fprintln(w, "\nExamples:")
		for _, e := range cmd.examples {
			fmt.Fprintln(w, "  "+e)
		}
	}
	return nil
}
