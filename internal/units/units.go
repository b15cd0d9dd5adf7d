// Package units prints durations, rates and shares as people read them: three digits or so and a unit.
package units

import (
	"fmt"
	"time"
)

// Seconds prints a time: 312 s, 8.75 s, 12.3 ms, 40 µs.
func Seconds(d time.Duration) string {
	switch {
	case d >= 100*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.0f µs", float64(d)/1e3)
}

// Percent prints a share: 31 %, 0.2 %; less than a twentieth of a percent is 0 %.
func Percent(share float64) string {
	switch {
	case share >= 0.0995:
		return fmt.Sprintf("%.0f %%", 100*share)
	case share < 0.0005:
		return "0 %"
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

// Rate prints a number per second with the prefix that fits: Rate(4.95e10, "B/s") is 49.5 GB/s.
func Rate(perSecond float64, unit string) string {
	prefixes := []string{"", "k", "M", "G", "T", "P"}
	k := 0
	for ; perSecond >= 999.5 && k < len(prefixes)-1; k++ {
		perSecond /= 1000
	}
	digits := 2
	switch {
	case perSecond >= 99.95:
		digits = 0
	case perSecond >= 9.995:
		digits = 1
	}
	return fmt.Sprintf("%.*f %s%s", digits, perSecond, prefixes[k], unit)
}
