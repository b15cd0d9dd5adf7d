package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// process is a running program whose output is watched.
type process struct {
	*exec.Cmd
	stdout, stderr *watched
}

// launch starts the program; its standard error is watched for a word.
func launch(t *testing.T, word string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.CommandContext(t.Context(), program, args...), stdout: watch("\n"), stderr: watch(word)}
	p.Stdout, p.Stderr, p.Env = p.stdout, p.stderr, environment()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// await waits for the word.
func (p *process) await(t *testing.T) {
	t.Helper()
	select {
	case <-p.stderr.seen:
	case <-time.After(10 * time.Minute):
		p.Process.Kill()
		p.Wait()
		t.Fatalf("%q never came:\n%s", p.stderr.want, p.stderr.text.String())
	}
}

// end waits for the process.
func (p *process) end() outcome {
	p.Wait()
	return outcome{p.ProcessState.ExitCode(), p.stdout.text.String(), p.stderr.text.String()}
}

func (p *process) interrupt(t *testing.T) {
	t.Helper()
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
}

// watched collects what a process writes and tells when a word has come.
type watched struct {
	text bytes.Buffer
	want string
	seen chan struct{}
	done bool
}

func watch(want string) *watched { return &watched{want: want, seen: make(chan struct{})} }

func (w *watched) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.done && strings.Contains(w.text.String(), w.want) {
		w.done = true
		close(w.seen)
	}
	return len(p), nil
}
