// Package doctor examines a device and its driver for someone who evaluates them: does every tier of kernels compute
// what plain float64 computes, how fast is it, how fast are copies alone and beside computing, what memory is there
// really, and what do other programs inject.
//
// Vocabulary. A probe is one examination with a name; it gives one Result or several. A Result has a status, one line
// that says what was found, numbers, and advice. A Report is all results with what they were measured on.
//
// Probes know nothing of each other: each opens its own device, so that one that loses the device, errs or never ends
// leaves the others alone. Examine runs them one after the other, each in a process of its own where the caller offers
// that (Options.Start), since a driver that crashes takes its process with it.
//
// What the package refuses to do: fill the host's or the device's memory, dispatch work that a watchdog would end, or
// change a setting.
package doctor
