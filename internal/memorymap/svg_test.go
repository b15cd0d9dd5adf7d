package memorymap

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func draw(t *testing.T, m Map) string {
	t.Helper()
	var b strings.Builder
	if err := m.WriteSVG(&b, func(n int64) string { return fmt.Sprintf("%d B", n) }); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return b.String()
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
	}
}

func TestPartsAreAsHighAsTheyAreLarge(t *testing.T) {
	m := Map{Title: "a <b> & c", Notes: []string{"note"}, Panels: []Panel{{Name: "device", Limit: 900, Columns: []Column{
		{"text", []Part{{"layers", 400}, {"rest", 200}}},
		{"denoise", []Part{{"stream", 100}, {"blocks", 500}, {"stream", 200}, {"tiny 1", 1}, {"tiny 2", 2}}},
	}}}}
	picture := draw(t, m)
	for _, want := range []string{"a &lt;b&gt; &amp; c", "note", "denoise: 803 B", "may be used: 900 B", "blocks: 500 B", "other: 3 B"} {
		if !strings.Contains(picture, want) {
			t.Errorf("the picture lacks %q:\n%s", want, picture)
		}
	}
	heights := map[string]float64{}
	for _, found := range regexp.MustCompile(`height="([0-9.]+)" fill="#[0-9a-f]+" stroke="#ffffff"[^>]*><title>([a-z0-9 ]+): `).FindAllStringSubmatch(picture, -1) {
		h, err := strconv.ParseFloat(found[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		heights[found[2]] = h
	}
	for label, bytes := range map[string]float64{"layers": 400, "rest": 200, "blocks": 500, "stream": 300} {
		if unit := heights["layers"] / 400; heights[label] < bytes*unit-0.2 || heights[label] > bytes*unit+0.2 {
			t.Errorf("%s is %.1f high, want %.1f", label, heights[label], bytes*unit)
		}
	}
}

func TestALimitFarAwayIsNotDrawn(t *testing.T) {
	m := Map{Title: "t", Panels: []Panel{{Name: "pinned", Limit: 1 << 40, Columns: []Column{{"a", []Part{{"x", 10}}}}}, {Name: "empty", Columns: []Column{{Name: "b"}}}}}
	if picture := draw(t, m); strings.Contains(picture, "may be used") || !strings.Contains(picture, "b: 0 B") {
		t.Errorf("got\n%s", picture)
	}
}

func TestALongNameIsCutAndItsSizeIsNot(t *testing.T) {
	if got, want := named("visual blocks (36 of 60)", "20.54 GiB", 20), "visual bl… 20.54 GiB"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := named("blocks", "1 B", 20), "blocks 1 B"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
