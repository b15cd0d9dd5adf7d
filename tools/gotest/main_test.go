package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeModule makes a module with one package and enters its folder.
func writeModule(t *testing.T, test string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/x\n\ngo 1.26\n", "x.go": "package x\n", "x_test.go": "package x\n\n" + test,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

const testing1 = "import \"testing\"\n\n"

func TestRunsAreCountedAndJudged(t *testing.T) {
	tests := []struct {
		name, test string
		line       string
		good       bool
		shown      string
	}{
		{"passing tests and subtests count", testing1 + `func TestA(t *testing.T) { t.Run("one", func(*testing.T) {}) }
func TestB(*testing.T) {}`, "3 passed, 0 failed, 0 skipped", true, "ok   example.com/x (3 tests"},
		{"a failed test fails the run and shows its output", testing1 + `func TestA(t *testing.T) { t.Error("seven is not eight") }
func TestB(*testing.T) {}`, "1 passed, 1 failed, 0 skipped", false, "seven is not eight"},
		{"a skip tells its reason", testing1 + `func TestA(t *testing.T) { t.Skip("no bf16 here") }
func TestB(*testing.T) {}`, "1 passed, 0 failed, 1 skipped", true, "no bf16 here"},
		{"no test is no success", "", "0 passed, 0 failed, 0 skipped", false, ""},
		{"only skipped tests are no success", testing1 + `func TestA(t *testing.T) { t.Skip("later") }`,
			"0 passed, 0 failed, 1 skipped", false, "later"},
		{"a package that does not build fails", testing1 + `func TestA(t *testing.T) { undefined() }`,
			"0 passed, 0 failed, 0 skipped", false, "undefined: undefined"},
		{"a panic fails and is shown", testing1 + `func TestB(*testing.T) {}
func TestC(*testing.T) { panic("burst") }`, "1 passed, 1 failed, 0 skipped", false, "burst"},
		{"an exit behind the test's back fails", "import (\n\"os\"\n\"testing\"\n)\nfunc TestA(*testing.T) {}\nfunc TestMain(m *testing.M) { m.Run(); os.Exit(3) }",
			"1 passed, 0 failed, 0 skipped", false, "FAIL example.com/x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeModule(t, tt.test)
			var out bytes.Buffer
			s, err := run([]string{"-count=1", "./..."}, &out)
			if err != nil {
				t.Fatal(err)
			}
			s.print(&out, "")
			if s.good() != tt.good {
				t.Errorf("good is %v, want %v\n%s", s.good(), tt.good, &out)
			}
			if !strings.HasSuffix(out.String(), "\n"+tt.line+"\n") && out.String() != tt.line+"\n" {
				t.Errorf("last line is not %q:\n%s", tt.line, &out)
			}
			if !strings.Contains(out.String(), tt.shown) {
				t.Errorf("output lacks %q:\n%s", tt.shown, &out)
			}
		})
	}
}

func TestCountsOfSeveralRunsAreAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "counts")
	for _, s := range []*summary{{passed: 3, skipped: 1}, {passed: 4, failed: 2}} {
		if err := appendCounts(path, s); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "3 0 1\n4 2 0\n" {
		t.Errorf("file holds %q", got)
	}
}
