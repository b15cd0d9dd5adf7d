package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/memory"
)

// byteSize is a flag for a number of bytes, written with a unit: 24GiB, 8g, 500MB. KiB, MiB, GiB, TiB and the bare
// letters k, m, g, t are powers of 1024; KB, MB, GB, TB are powers of 1000; a number alone is bytes.
type byteSize int64

// Set implements pflag.Value.
func (b *byteSize) Set(s string) error {
	n, err := parseByteSize(s)
	if err == nil {
		*b = byteSize(n)
	}
	return err
}

// String implements pflag.Value; the zero value is empty, so that help prints no default.
func (b *byteSize) String() string {
	if *b == 0 {
		return ""
	}
	return memory.Size(int64(*b))
}

// Type implements pflag.Value.
func (b *byteSize) Type() string { return "SIZE" }

// parseByteSize reads a positive size in bytes.
func parseByteSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	at := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	number, unit := text, ""
	if at >= 0 {
		number, unit = text[:at], strings.ToLower(strings.TrimSpace(text[at:]))
	}
	value, err := strconv.ParseFloat(number, 64)
	scale, known := byteUnit(unit)
	if err != nil || !known {
		return 0, fmt.Errorf("%q is no size: write 24GiB, 8g, 500MB or a number of bytes", s)
	}
	value *= scale
	if !(value >= 1) || value > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is out of range: a size is from 1 byte to 4 EiB", s)
	}
	return int64(value), nil
}

// byteUnit returns the factor of a unit in lower case.
func byteUnit(unit string) (float64, bool) {
	if unit == "" || unit == "b" {
		return 1, true
	}
	power := strings.IndexByte("kmgt", unit[0]) + 1
	if power == 0 {
		return 0, false
	}
	switch unit[1:] {
	case "", "i", "ib":
		return math.Pow(1024, float64(power)), true
	case "b":
		return math.Pow(1000, float64(power)), true
	}
	return 0, false
}

// byteSizes is a flag for several sizes, joined by commas.
type byteSizes []int64

// Set implements pflag.Value.
func (b *byteSizes) Set(s string) error {
	*b = nil
	for _, text := range strings.Split(s, ",") {
		n, err := parseByteSize(text)
		if err != nil {
			return err
		}
		*b = append(*b, n)
	}
	return nil
}

// String implements pflag.Value.
func (b *byteSizes) String() string {
	var texts []string
	for _, n := range *b {
		texts = append(texts, memory.Size(n))
	}
	return strings.Join(texts, ",")
}

// Type implements pflag.Value.
func (b *byteSizes) Type() string { return "SIZES" }
