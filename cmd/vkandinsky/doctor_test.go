package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/doctor"
)

func TestDoctorAsTextJSONAndHTML(t *testing.T) {
	page := filepath.Join(t.TempDir(), "a report.html")
	var r doctor.Report
	parseJSON(t, startOK(t, "doctor", "--quick", "--json", "--html", page).stdout, &r)
	if r.Device == "" || len(r.Results) < 9 || r.Count(doctor.Failed) != 0 || !strings.HasPrefix(r.Program, "vkandinsky") || !r.Quick {
		t.Errorf("report %+v", r)
	}
	names := map[string]bool{}
	for _, result := range r.Results {
		names[result.Title] = true
	}
	for _, want := range []string{"driver", "queue layout", "heaps and budgets", "resizable BAR", "injected layers", "kernels, tier " + r.Tier, "kernels, every tier", "copies", "longest dispatch", "pinned memory"} {
		if !names[want] {
			t.Errorf("the report lacks %q", want)
		}
	}
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(page), "*")); len(left) != 1 {
		t.Errorf("files %v, want the page alone", left)
	}
	text := startOK(t, "doctor", "--quick", "--in-process", "--kernels", "base").stdout
	if !strings.Contains(text, r.Device) || !strings.Contains(text, "kernels, tier base") {
		t.Errorf("the text lacks the device or the tier:\n%s", text)
	}
}

func TestDoctorUnderTheValidationLayer(t *testing.T) {
	var r doctor.Report
	parseJSON(t, startOK(t, "doctor", "--quick", "--validate", "--json").stdout, &r)
	if len(r.Results) < 9 {
		t.Errorf("report %+v", r)
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	o := start(t, "doctor", "--quick", "--json", "--fault", "submit=5")
	o.wantLine(t, exitFailed, "examinations failed", "device lost")
	var r doctor.Report
	parseJSON(t, o.stdout, &r)
	// Each examination has a device of its own, so one that is lost does not stop the next.
	lost := 0
	for _, result := range r.Results {
		if result.Status == doctor.Failed && strings.Contains(result.Summary, "device lost") {
			lost++
		}
	}
	if lost < 2 || r.Count(doctor.OK) == 0 {
		t.Errorf("%d lost, %d ok: %+v", lost, r.Count(doctor.OK), r.Results)
	}
}

func TestDoctorRefusesMistakesBeforeItWorks(t *testing.T) {
	start(t, "doctor", "--device", "77").wantLine(t, exitBadInput, "no device 77")
	start(t, "doctor", "--html", filepath.Join(t.TempDir(), "no", "report.html")).wantLine(t, exitBadInput, "there is no folder")
	start(t, "doctor", "--html", t.TempDir()).wantLine(t, exitBadInput, "is a folder")
	start(t, "doctor", "--probe", "soul").wantLine(t, exitBadInput, "no such probe")
	start(t, "doctor", "please").wantLine(t, exitBadInput, "unexpected argument")
	start(t, "doctor", "--kernels", "fast").wantLine(t, exitBadInput, "unknown kernel tier")
}

func TestDoctorWithoutADriver(t *testing.T) {
	t.Setenv("VK_DRIVER_FILES", filepath.Join(t.TempDir(), "none.json"))
	t.Setenv("VK_ICD_FILENAMES", filepath.Join(t.TempDir(), "none.json"))
	o := start(t, "doctor", "--quick")
	o.wantLine(t, exitFailed, "no vulkan driver found")
	if !strings.Contains(o.stdout, "Install the GPU's driver") {
		t.Errorf("no advice:\n%s", o.stdout)
	}
}

func TestCommandsWithoutADriverSayWhatHelps(t *testing.T) {
	t.Setenv("VK_DRIVER_FILES", filepath.Join(t.TempDir(), "none.json"))
	t.Setenv("VK_ICD_FILENAMES", filepath.Join(t.TempDir(), "none.json"))
	start(t, "devices").wantLine(t, exitFailed, "install the GPU's driver")
	start(t, "plan", "-q").wantLine(t, exitFailed, "say with --vram")
}

// TestDoctorSurvivesALayerThatCrashes puts an implicit layer into the loader's way that ends every process it is loaded
// into, as some overlays do.
func TestDoctorSurvivesALayerThatCrashes(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("layers are found otherwise there")
	}
	dir := t.TempDir()
	source, library := filepath.Join(dir, "bad.c"), filepath.Join(dir, "libbad.so")
	manifest := `{"file_format_version": "1.0.0", "layer": {"name": "VK_LAYER_RTSS", "type": "GLOBAL", "library_path": "` + library + `", "api_version": "1.2.141",
		"implementation_version": "1", "description": "crashes", "disable_environment": {"DISABLE_BAD": "1"}}}`
	folder := filepath.Join(dir, "vulkan", "implicit_layer.d")
	if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "bad.json"), []byte(manifest), 0o600),
		os.WriteFile(source, []byte("__attribute__((constructor)) static void crash(void) { *(volatile int *)0 = 1; }\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cc", "-shared", "-fPIC", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out) // cgo needs a C compiler too
	}
	t.Setenv("XDG_DATA_DIRS", dir+":/usr/local/share:/usr/share")
	o := start(t, "doctor", "--quick", "--json")
	o.wantLine(t, exitFailed, "1 of ", "injected layers", "SIGSEGV", "without them it works")
	var r doctor.Report
	parseJSON(t, o.stdout, &r)
	if r.Count(doctor.Failed) != 1 || r.Count(doctor.OK) < 4 || !strings.Contains(strings.Join(r.Results[0].Advice, " "), "RivaTuner") {
		t.Errorf("%+v", r.Results)
	}
}

func TestDoctorIsInterruptedInOrder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGINT to send there")
	}
	page := filepath.Join(t.TempDir(), "report.html")
	cmd := exec.Command(program, "doctor", "--html", page)
	var out bytes.Buffer
	cmd.Stdout, cmd.Env = &out, environment()
	errs, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said []byte
	for part := make([]byte, 256); !bytes.Contains(said, []byte("injected layers")); {
		n, err := errs.Read(part)
		if said = append(said, part[:n]...); err != nil {
			t.Fatalf("%v after %s", err, said)
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, errs)
	_ = cmd.Wait() // the status says how
	if status := cmd.ProcessState.ExitCode(); status != exitInterrupted {
		t.Errorf("status %d, want %d: %s", status, exitInterrupted, said)
	}
	if text := out.String(); !strings.Contains(text, "driver ") || !strings.Contains(text, "interrupted") {
		t.Errorf("what was found until then is not told:\n%s", text)
	}
	if _, err := os.Stat(page); err == nil {
		t.Error("an interrupted examination left a report")
	}
}

func TestTheLastFindingsOfAProcessThatWasEndedCount(t *testing.T) {
	for text, want := range map[string]string{
		"": "", `{"results": [`: "", "{\"results\":[{\"summary\":\"a\"}]}\n": "a",
		"{\"results\":[{\"summary\":\"a\"}]}\n{\"results\":[{\"summary\":\"b\"}]}\n{\"results\":[{\"sum": "b",
	} {
		got := ""
		f, told := lastFindings(strings.NewReader(text))
		for _, r := range f.Results {
			got += r.Summary
		}
		if got != want || told != (want != "") {
			t.Errorf("%q tells %q, %v", text, got, told)
		}
	}
}

func TestLastWordsOfAProcess(t *testing.T) {
	for text, want := range map[string]string{
		"\nSIGSEGV: segmentation violation\nPC=0x1 m=0\nsignal arrived during cgo execution\n": "SIGSEGV: segmentation violation",
		"Exception 0xc0000005 0x0 0x0 0x7ffd\nPC=0x7ffd\n":                                     "Exception 0xc0000005 0x0 0x0 0x7ffd",
		"vkandinsky: internal error: x, please report\ngoroutine 1":                            "internal error: x, please report",
		"nothing of the kind": "it broke",
	} {
		if got := lastWords(text, errors.New("it broke")); got != want {
			t.Errorf("%q ends as %q, want %q", text, got, want)
		}
	}
}
