package doctor

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/injected"
	"github.com/vkandinsky/vkandinsky/internal/pcie"
)

func htmlOf(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestHTMLIsOneWholeWellFormedPage(t *testing.T) {
	empty := &Report{}
	noDriver := &Report{}
	noDriver.add(Result{Name: probeDevice, Title: "driver", Status: Failed, Summary: `no "driver" <found>`})
	for name, r := range map[string]*Report{"everything": sample(), "nothing": empty, "no driver": noDriver} {
		t.Run(name, func(t *testing.T) {
			page := htmlOf(t, r)
			d := xml.NewDecoder(strings.NewReader(page))
			count := map[string]int{}
			for {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("not well-formed: %v", err)
				}
				if start, ok := token.(xml.StartElement); ok {
					count[start.Name.Local]++
				}
			}
			for _, forbidden := range []string{"script", "link", "img", "iframe"} {
				if count[forbidden] > 0 {
					t.Errorf("%d elements %s: the page must need nothing else", count[forbidden], forbidden)
				}
			}
			if found := regexp.MustCompile(`(?i)(src|href)=|@import|url\(`).FindString(page); found != "" {
				t.Errorf("the page reaches out: %s", found)
			}
			if strings.Contains(page, "NaN") || strings.Contains(page, "ZgotmplZ") || strings.Contains(page, "%!") {
				t.Error("the page has a number or a text that could not be written")
			}
			if name == "everything" && count["svg"] != 5 {
				t.Errorf("%d plots, want 5", count["svg"])
			}
		})
	}
}

func TestHTMLTellsWhatIsInTheReport(t *testing.T) {
	page := htmlOf(t, sample())
	for _, want := range []string{"Card &lt;A&gt; &amp; Sons", "402 TFLOP/s", "49.5 GB/s", "1 of 3 kernels compute wrong numbers", "Set DISABLE_X=1 to keep it out.", "not a number",
		"watchdog, 2 s", "7 ok, 1 warning, 1 failed, 1 not available", "VK_LAYER_x", "vkandinsky test"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<A>") {
		t.Error("a name was not escaped")
	}
}

func TestTextTellsWhatIsInTheReport(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"Card <A> & Sons (discrete gpu), Driver 1.2, Vulkan 1.4.312", "402 TFLOP/s", "FAILED: wrong numbers", "49.5 GB/s", "injected layers: Set DISABLE_X=1", "estimated",
		"7 ok, 1 warning, 1 failed, 1 not available"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	for n, line := range strings.Split(text, "\n") {
		if line != strings.TrimRight(line, " \t") {
			t.Errorf("line %d ends in blanks: %q", n+1, line)
		}
	}
}

func TestRatesOfAllSizesAreReadable(t *testing.T) {
	for _, c := range []struct {
		k    Kernel
		want string
	}{
		{Kernel{Rate: 402.3, Unit: "TFLOP/s"}, "402 TFLOP/s"}, {Kernel{Rate: 31.04, Unit: "TFLOP/s"}, "31.0 TFLOP/s"},
		{Kernel{Rate: 1.234, Unit: "TFLOP/s"}, "1.23 TFLOP/s"}, {Kernel{Rate: 0.00394, Unit: "TFLOP/s"}, "3.94 GFLOP/s"}, {Kernel{Rate: 0.05, Unit: "GB/s"}, "0.05 GB/s"},
	} {
		if got := speed(c.k); got != c.want {
			t.Errorf("%v is written %q, want %q", c.k.Rate, got, c.want)
		}
	}
	for s, want := range map[float64]string{12: "12.00 s", 0.0182: "18.2 ms", 2.5e-5: "25.0 µs"} {
		if got := seconds(s); got != want {
			t.Errorf("%g is written %q, want %q", s, got, want)
		}
	}
}

func TestAxesHaveRoundTicks(t *testing.T) {
	for top, want := range map[float64]int{51: 3, 1: 5, 0.45: 3, 402: 3, 99: 4} {
		got := ticks(top)
		if len(got) != want || got[0] != 0 || got[len(got)-1] > top*1.001 {
			t.Errorf("ticks to %g: %v, want %d", top, got, want)
		}
	}
	a := axis{1e-8, 1e-2, 0, 600, true}
	if d := a.decades(); len(d) != 7 || a.at(1e-8) != 0 || a.at(1) != 600 || a.at(0) != 0 {
		t.Errorf("decades %v", d)
	}
}

func TestLayersAreJudgedByWhatIsLoaded(t *testing.T) {
	layers := []injected.Layer{
		{Name: "VK_LAYER_bandicam_helper", Library: "bdcamvk64.dll", Active: true, Why: "always on", Disable: "KEEP_OUT=1"},
		{Name: "VK_LAYER_RTSS", Library: "RTSSVkLayer64.dll", Active: false, Why: "off by X"},
		{Name: "VK_LAYER_MESA_device_select", Library: "libVkLayer_MESA_device_select.so", Active: true, Why: "always on"},
	}
	r := Result{Status: OK}
	describeLayers(&r, layers, []string{`C:\Program Files\bdcamvk64.dll`, "/usr/lib/libVkLayer_MESA_device_select.so", "/lib/libc.so.6"})
	if r.Status != Warning || r.Summary != "2 loaded, known to crash programs: Bandicam" || len(r.Advice) != 1 || !strings.Contains(r.Advice[0], "Set KEEP_OUT=1") || len(r.Facts) != 3 {
		t.Errorf("%+v", r)
	}
	r = Result{Status: OK}
	describeLayers(&r, layers[1:], []string{"/usr/lib/libVkLayer_MESA_device_select.so"})
	if r.Status != OK || r.Summary != "1 loaded, none known to crash: VK_LAYER_MESA_device_select" {
		t.Errorf("%+v", r)
	}
	r = Result{Status: OK} // a hook that is no layer
	describeLayers(&r, nil, []string{`C:\ProgramData\obs-studio-hook\graphics-hook64.dll`})
	if r.Status != Warning || !strings.Contains(r.Summary, "OBS Studio") || !strings.Contains(r.Advice[0], "DISABLE_VULKAN_OBS_CAPTURE=1") {
		t.Errorf("%+v", r)
	}
	r = Result{Status: OK}
	describeLayers(&r, nil, nil)
	if r.Status != OK || r.Summary != "none loaded" {
		t.Errorf("%+v", r)
	}
}

func TestALinkThatIsNarrowerThanItCouldBeIsAWarning(t *testing.T) {
	r := Result{Status: OK, Copies: []Copy{{Direction: "up", Beside: "nothing", Rate: 28e9}}}
	describeLink(&r, pcie.Link{Speed: 32, MaxSpeed: 32, Width: 8, MaxWidth: 16})
	if r.Status != Warning || len(r.Advice) != 1 || r.Facts[0].Text != "PCIe, 32 GT/s ×8 of 32 GT/s ×16: 31.5 GB/s each way at best, the way up reaches 89 %" {
		t.Errorf("%+v", r)
	}
	r = Result{Status: OK, Copies: r.Copies}
	if describeLink(&r, pcie.Link{Speed: 32, MaxSpeed: 32, Width: 16, MaxWidth: 16}); r.Status != OK || len(r.Advice) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestPinnedMemoryAndDispatchesAreJudged(t *testing.T) {
	r := Result{Status: OK}
	describePinned(&r, 12<<30, 60<<30, "half", errors.New("out of host memory"))
	if r.Status != Warning || !strings.Contains(r.Summary, "12.00 GiB can be pinned, then the driver refuses") {
		t.Errorf("%+v", r)
	}
	r = Result{Status: OK}
	describePinned(&r, 0, 60<<30, "half", errors.New("out of host memory"))
	if r.Status != Failed {
		t.Errorf("%+v", r)
	}
	for seconds, want := range map[float64]Status{0.5: OK, 1.5: Warning, 2.5: Failed} {
		r := Result{Status: OK, Dispatch: []Dispatch{{Kernel: "attention", Cost: 2e11, Seconds: seconds, Measured: true}}}
		if describeDispatches(&r, "discrete gpu"); r.Status != want {
			t.Errorf("%g s is %s, want %s", seconds, r.Status, want)
		}
		r.Status = OK
		if describeDispatches(&r, "cpu"); r.Status != OK {
			t.Errorf("%g s on a CPU is %s", seconds, r.Status)
		}
	}
}
