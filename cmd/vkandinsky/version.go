package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

func versionCommand() *command {
	cmd := &command{
		name: "version", summary: "print the version",
		about: "Prints the module's version, the commit it was built from, and the Go release and platform.",
	}
	cmd.run = func(_ context.Context, c *console, args []string) error {
		if err := noArguments(args); err != nil {
			return err
		}
		fmt.Fprintln(c.out, versionLine(debug.ReadBuildInfo()))
		return nil
	}
	return cmd
}

// versionLine says what the build information knows.
func versionLine(info *debug.BuildInfo, ok bool) string {
	version, commit := "unknown", ""
	if ok {
		if info.Main.Version != "" {
			version = info.Main.Version
		}
		settings := map[string]string{}
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
		if revision := settings["vcs.revision"]; revision != "" {
			commit = ", commit " + revision
			if at := settings["vcs.time"]; at != "" {
				commit += " of " + at
			}
			if settings["vcs.modified"] == "true" {
				commit += " with changes"
			}
		}
	}
	return fmt.Sprintf("vkandinsky %s%s, %s %s/%s", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
