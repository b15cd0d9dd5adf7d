package main

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

func TestWhatARunWaitsForIsSaid(t *testing.T) {
	for want, w := range map[string]kandinsky5.Waiting{
		"":                               {},
		"compiling 1 kernel":             {Compiling: 1},
		"reading 512.0 MiB of 34.20 GiB": {Read: 512 << 20, ToRead: 36721970381},
		"reading 0 B of 1.00 GiB, compiling 12 kernels": {ToRead: 1 << 30, Compiling: 12},
	} {
		if got := waitingFor(w); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
