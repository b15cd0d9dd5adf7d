package main

import (
	"fmt"
	"io"
)

// help prints the overview, or the help of the command named.
func help(c *console, args []string) error {
	if len(args) == 0 {
		printOverview(c.out)
		return nil
	}
	cmd := findCommand(args[0])
	if cmd == nil {
		return badInput(fmt.Errorf("unknown command %q: vkandinsky help lists them", args[0]))
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
Without a command the flags are generate's:
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
