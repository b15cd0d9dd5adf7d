package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupts turn signals into the end of a run. The first Ctrl-C is the command's to handle, if it has said how; the next
// one cancels the context, which ends any work in order, and one more has its default effect: it kills. SIGTERM, after
// which systems do not wait long, and SIGHUP, when the terminal is gone, cancel at once.
type interrupts struct {
	cancel context.CancelFunc

	mu    sync.Mutex
	first func() bool
	count int
}

type interruptsKey struct{}

// catchInterrupts begins to take signals. The context that it returns knows of them.
func catchInterrupts(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	i := &interrupts{cancel: cancel}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup a run outlives its terminal
		signal.Notify(signals, syscall.SIGHUP)
	}
	go i.serve(signals)
	return context.WithValue(ctx, interruptsKey{}, i)
}

// interruptsOf returns those of a context, nil where nobody takes signals. A nil *interrupts does nothing.
func interruptsOf(ctx context.Context) *interrupts {
	i, _ := ctx.Value(interruptsKey{}).(*interrupts)
	return i
}

func (i *interrupts) serve(signals chan os.Signal) {
	for s := range signals {
		if !i.handled(s) {
			signal.Stop(signals)
			i.cancel()
		}
	}
}

// handled says whether the command ends by itself.
func (i *interrupts) handled(s os.Signal) bool {
	i.mu.Lock()
	i.count++
	first := i.first
	if i.count > 1 {
		first = nil
	}
	i.mu.Unlock()
	return first != nil && s == os.Interrupt && first()
}

// handle sets what the first Ctrl-C calls, on another goroutine: true says that the command will end by itself. nil takes
// it back.
func (i *interrupts) handle(first func() bool) {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.first = first
}

// stop ends the run at once, as a second Ctrl-C would.
func (i *interrupts) stop() {
	if i != nil {
		i.cancel()
	}
}

// insisted says whether there was more than one signal.
func (i *interrupts) insisted() bool {
	if i == nil {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count > 1
}

// interruption is how a run ended that was interrupted and has more to say.
type interruption struct{ text string }

func (i interruption) Error() string { return i.text }
