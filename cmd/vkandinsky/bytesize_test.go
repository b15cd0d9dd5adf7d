package main

import (
	"math"
	"testing"
)

func TestParseByteSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want int64 // 0: an error
	}{
		{"24GiB", 24 << 30}, {"8g", 8 << 30}, {"8G", 8 << 30}, {"500MB", 500_000_000}, {"1.5 GiB", 3 << 29}, {"2Gi", 2 << 30},
		{"64k", 64 << 10}, {"1TiB", 1 << 40}, {"1kb", 1000}, {"4096", 4096}, {"100b", 100}, {" 7 m ", 7 << 20},
		{"", 0}, {"0", 0}, {"0GiB", 0}, {"-1g", 0}, {"g", 0}, {"1x", 0}, {"1gigabyte", 0}, {"1.2.3g", 0}, {"1e3g", 0}, {"8EiB", 0},
		{"9999999999TiB", 0}, {"NaN", 0}, {"Inf", 0}, {"0.1", 0},
	} {
		got, err := parseByteSize(c.text)
		if (err != nil) != (c.want == 0) || err == nil && got != c.want {
			t.Errorf("parseByteSize(%q) = %d, %v; want %d", c.text, got, err, c.want)
		}
	}
}

func FuzzParseByteSize(f *testing.F) {
	for _, s := range []string{"24GiB", "8g", "500MB", "1.5", "", "g", "9e9t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseByteSize(s)
		if err == nil && (n < 1 || n > math.MaxInt64/2) {
			t.Errorf("%q gave %d", s, n)
		}
	})
}
