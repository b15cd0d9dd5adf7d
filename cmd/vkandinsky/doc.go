// Command vkandinsky generates videos with Kandinsky 5.0 on any GPU that has a Vulkan driver, and looks at devices,
// checkpoints and memory around that. There is one file per subcommand; each holds flags and printing only.
//
// Standard output carries results alone (the path of what was written, tables, JSON); logs and progress go to standard
// error. Exit status: 0 for success, 1 when a run failed or a check did not pass, 2 for mistakes of the user (flags,
// configurations, checkpoints, pictures), 3 for a bug, 130 after Ctrl-C.
package main
