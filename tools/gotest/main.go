// Command gotest runs `go test` and counts what ran.
//
//	go run ./tools/gotest [-label WORD] [-counts FILE] -- go-test-arguments…
//
// It prints one line per package, the whole output of each test that failed, the reason of each skip, and last a line
// such as "modern: 214 passed, 0 failed, 3 skipped" (tests and subtests alike). The exit status is 1 when a test or a
// package failed, and when no test ran at all: a suite that silently runs nothing must not look like a success.
// -counts appends the three numbers to a file, for a caller that adds up several runs.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sort"
	"strings"
	"time"
)

func main() {
	label := flag.String("label", "", "word before the counts")
	counts := flag.String("counts", "", "file to append passed, failed and skipped to")
	flag.Parse()
	s, err := run(flag.Args(), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	s.print(os.Stdout, *label)
	if *counts != "" {
		if err := appendCounts(*counts, s); err != nil {
			fmt.Fprintln(os.Stderr, "gotest:", err)
			os.Exit(1)
		}
	}
	if !s.good() {
		os.Exit(1)
	}
}

// run starts go test and follows its events.
func run(args []string, out io.Writer) (*summary, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	// What is no event (a compiler's message on standard error) is passed on as it is.
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := newSummary(out)
	readErr := s.read(pipe)
	waitErr := cmd.Wait()
	if readErr != nil {
		return nil, readErr
	}
	// An exit status without a failed test: a package that does not build, a flag that go test does not know.
	s.broken = waitErr != nil
	return s, nil
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

type testKey struct{ pkg, test string }

// summary counts results and keeps the output of tests that have not ended.
type summary struct {
	out                     io.Writer
	output                  map[testKey][]string
	skips                   map[string]int
	perPackage              map[string]int
	passed, failed, skipped int
	broken                  bool
}

func newSummary(out io.Writer) *summary {
	return &summary{out: out, output: map[testKey][]string{}, skips: map[string]int{}, perPackage: map[string]int{}}
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				s.event(e)
			} else {
				fmt.Fprintf(s.out, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) event(e event) {
	key := testKey{e.Package, e.Test}
	switch e.Action {
	case "output":
		s.output[key] = append(s.output[key], e.Output)
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.packageEnd(e)
		} else {
			s.testEnd(e, key)
		}
		delete(s.output, key)
	}
}

func (s *summary) testEnd(e event, key testKey) {
	switch e.Action {
	case "pass":
		s.passed++
		s.perPackage[e.Package]++
	case "fail":
		s.failed++
		fmt.Fprintf(s.out, "FAIL %s %s\n", e.Package, e.Test)
		for _, line := range s.output[key] {
			if !strings.HasPrefix(strings.TrimSpace(line), "=== ") {
				fmt.Fprint(s.out, "    ", line)
			}
		}
	case "skip":
		s.skipped++
		s.skips[reason(s.output[key])]++
	}
}

// reason finds the text given to t.Skip: the line that names a file.
func reason(output []string) string {
	for _, line := range output {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") && line != "" {
			return line
		}
	}
	return "no reason given"
}

func (s *summary) packageEnd(e event) {
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	switch {
	case e.Action == "fail":
		fmt.Fprintf(s.out, "FAIL %s (%s)\n", e.Package, took)
		// A panic, a race or a time-out belongs to no test: what is left of the output has it.
		for key, lines := range s.output {
			if key.pkg == e.Package {
				fmt.Fprint(s.out, strings.Join(lines, ""))
				delete(s.output, key)
			}
		}
	case s.perPackage[e.Package] > 0:
		fmt.Fprintf(s.out, "ok   %s (%d tests, %s)\n", e.Package, s.perPackage[e.Package], took)
	}
}

func (s *summary) good() bool { return !s.broken && s.failed == 0 && s.passed > 0 }

func (s *summary) print(out io.Writer, label string) {
	reasons := make([]string, 0, len(s.skips))
	for r := range s.skips {
		reasons = append(reasons, r)
	}
	sort.Strings(reasons)
	for _, r := range reasons {
		fmt.Fprintf(out, "skipped %d: %s\n", s.skips[r], r)
	}
	if s.broken && s.failed == 0 {
		fmt.Fprintln(out, "go test failed outside a test")
	}
	if label != "" {
		label += ": "
	}
	fmt.Fprintf(out, "%s%d passed, %d failed, %d skipped\n", label, s.passed, s.failed, s.skipped)
}

func appendCounts(path string, s *summary) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, s.passed, s.failed, s.skipped)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
