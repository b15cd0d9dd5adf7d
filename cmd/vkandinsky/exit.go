package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// Exit statuses besides 0.
const (
	exitFailed      = 1   // the run failed, or a check did not pass
	exitBadInput    = 2   // a mistake of the user's: flags, files
	exitBug         = 3   // a panic
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// inputError is a mistake in what the user gave.
type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// badInput marks an error as the user's; nil stays nil.
func badInput(err error) error {
	if err == nil {
		return nil
	}
	return inputError{err}
}

// exitStatus says how the program ends after an error.
func exitStatus(ctx context.Context, err error) int {
	var input inputError
	var config *configs.Error
	switch {
	case errors.As(err, new(interruption)):
		return exitInterrupted
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &input), errors.As(err, &config), errors.Is(err, kandinsky5.ErrRequest), errors.Is(err, weights.ErrNotFinite), errors.Is(err, load.ErrIncompressible),
		errors.Is(err, engine.ErrNoDevice):
		return exitBadInput
	}
	return exitFailed
}

// remedy says what helps against an error that comes from below and does not say it. It begins as the rest of a line does.
func remedy(err error) string {
	if errors.Is(err, vk.ErrNoVulkan) {
		return ": install the GPU's driver, or Mesa's for a CPU (mesa-vulkan-drivers); vkandinsky doctor says more"
	}
	return ""
}

// badInputf makes an error of the user's.
func badInputf(format string, args ...any) error { return inputError{fmt.Errorf(format, args...)} }
