package units

import (
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 µs", 40 * time.Microsecond: "40 µs", 12345 * time.Microsecond: "12.3 ms", 8754 * time.Millisecond: "8.75 s", 312 * time.Second: "312 s",
	} {
		if got := Seconds(d); got != want {
			t.Errorf("%v is %q, want %q", int64(d), got, want)
		}
	}
}

func TestPercent(t *testing.T) {
	for share, want := range map[float64]string{0: "0 %", 0.0004: "0 %", 0.0006: "0.1 %", 0.0214: "2.1 %", 0.0996: "10 %", 0.314: "31 %", 1: "100 %"} {
		if got := Percent(share); got != want {
			t.Errorf("%g is %q, want %q", share, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	for rate, want := range map[float64]string{0: "0.00 B/s", 4.95e10: "49.5 GB/s", 6.504e14: "650 TB/s", 999.6: "1.00 kB/s", 99.96: "100 B/s", 9.999e9: "10.0 GB/s", 5e20: "500000 PB/s"} {
		if got := Rate(rate, "B/s"); got != want {
			t.Errorf("%g is %q, want %q", rate, got, want)
		}
	}
}
