package swap

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/timeline"
)

var update = flag.Bool("update", false, "write the golden picture anew")

// madeUpTrace is three passes of 20 blocks on a slow bus, with kernels.
func madeUpTrace(t *testing.T) Trace {
	t.Helper()
	p := mustPlan(t, Options{Blocks: 20, Slots: 6})
	uses, copies := playedSpans(p, 3, 10*ms, 13*ms, 0)
	var compute []engine.Span
	for _, m := range uses {
		compute = append(compute, m)
		if strings.HasSuffix(m.Label, "begin") {
			at := m.Start
			for _, k := range []struct {
				label string
				took  float64
			}{{"matmul 4096x4096x4096", 2e6}, {"attention full 32", 5e6}, {"norm", 3e5}, {"matmul 16384x4096x4096", 2.7e6}} {
				compute = append(compute, engine.Span{Label: k.label, Start: at, End: at + k.took})
				at += k.took
			}
		}
	}
	_, end, _ := timeline.Bounds([]timeline.Row{IntervalsOf(uses, copies).computeRow()})
	host := []engine.Span{{Label: "pass 1", Start: 0, End: end / 3}, {Label: "pass 2", Start: end / 3, End: 2 * end / 3}, {Label: "pass <3>", Start: 2 * end / 3, End: end}}
	return Trace{Host: host, Compute: compute, Transfer: copies}
}

func TestRowsOfATraceDoNotOverlap(t *testing.T) {
	rows := madeUpTrace(t).Rows()
	if len(rows) != 4 {
		t.Fatalf("%d rows, want 4", len(rows))
	}
	stalls := 0
	for _, r := range rows {
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		for _, i := range r.Intervals {
			if i.Kind == timeline.Stall {
				stalls++
			}
		}
	}
	if stalls == 0 {
		t.Error("a slow bus shows no stall")
	}
}

func TestTheChartShowsRunPassAndBlocks(t *testing.T) {
	trace := madeUpTrace(t)
	c := trace.Chart("a run")
	if len(c.Panels) != 3 {
		t.Fatalf("%d panels, want 3", len(c.Panels))
	}
	for k, p := range c.Panels {
		if p.To <= p.From || len(p.Rows) < 2 {
			t.Errorf("panel %q: %g to %g, %d rows", p.Title, p.From, p.To, len(p.Rows))
		}
		if k > 0 && p.To-p.From >= c.Panels[k-1].To-c.Panels[k-1].From {
			t.Errorf("panel %q shows no less than %q", p.Title, c.Panels[k-1].Title)
		}
	}
	if n := len(Trace{}.Chart("nothing").Panels); n != 0 {
		t.Errorf("an empty trace has %d panels", n)
	}
	if n := len(Trace{Host: trace.Host}.Chart("stages alone").Panels); n != 1 {
		t.Errorf("stages alone have %d panels, want 1", n)
	}
}

// The picture is compared with testdata/timeline.svg; -update writes that anew.
func TestThePictureIsTheGoldenOne(t *testing.T) {
	var got bytes.Buffer
	if err := madeUpTrace(t).Chart("20 blocks, 6 on the device", "a bus of 45 GB/s & compute of 10 ms a block").WriteSVG(&got); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "timeline.svg")
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		actual := filepath.Join(t.TempDir(), "timeline.svg")
		if err := os.WriteFile(actual, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Errorf("the picture differs from %s (look at both, then run with -update)", golden)
	}
	d := xml.NewDecoder(&got)
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
}

func TestTheTraceIsJSONWithEventsInBounds(t *testing.T) {
	rows := madeUpTrace(t).Rows()
	var text bytes.Buffer
	if err := timeline.WriteTrace(&text, rows); err != nil {
		t.Fatal(err)
	}
	var file struct {
		TraceEvents []struct {
			Name, Ph, Cat string
			TS, Dur       float64
			TID           int
			Args          map[string]string
		}
	}
	if err := json.Unmarshal(text.Bytes(), &file); err != nil {
		t.Fatal(err)
	}
	from, to, _ := timeline.Bounds(rows)
	names, events, ends := map[int]string{}, 0, map[int]float64{}
	for _, e := range file.TraceEvents {
		switch e.Ph {
		case "M":
			if e.Name == "thread_name" {
				names[e.TID] = e.Args["name"]
			}
		case "X":
			events++
			if e.TS < 0 || e.Dur < 0 || e.TS+e.Dur > (to-from)/1e3+1e-6 || e.Cat == "" || names[e.TID] == "" {
				t.Errorf("event %+v", e)
			}
			if e.TS < ends[e.TID]-1e-6 {
				t.Errorf("event %+v begins before the one before it ends", e)
			}
			ends[e.TID] = e.TS + e.Dur
		default:
			t.Errorf("event %+v", e)
		}
	}
	want := 0
	for _, r := range rows {
		want += len(r.Intervals)
	}
	if len(names) != len(rows) || events != want {
		t.Errorf("%d threads and %d events, want %d and %d", len(names), events, len(rows), want)
	}
}
