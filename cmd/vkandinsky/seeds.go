package main

import (
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/promptfile"
)

// maxSeeds bounds a list: a range is written down quickly.
const maxSeeds = 1000

// seedOrders are clips that differ in their seeds.
func seedOrders(f *flags, list string) ([]order, error) {
	if f.changed("seed") {
		return nil, badInputf("--seed and --seeds exclude each other")
	}
	seeds, err := parseSeeds("seeds", list)
	if err != nil {
		return nil, err
	}
	out := make([]order, len(seeds))
	for k, seed := range seeds {
		number := strconv.FormatUint(seed, 10)
		out[k] = order{"seed " + number, []promptfile.Value{{Name: "seed", Text: number}}, "seed" + number, seed}
	}
	return out, nil
}

// parseSeeds reads the numbers and ranges that a flag has: 3,7,20..22.
func parseSeeds(flag, list string) ([]uint64, error) {
	var out []uint64
	seen := map[uint64]bool{}
	for _, part := range strings.Split(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "..")
		from, err := strconv.ParseUint(first, 10, 64)
		to := from
		if err == nil && isRange {
			to, err = strconv.ParseUint(last, 10, 64)
		}
		if err != nil || to < from {
			return nil, badInputf("--%s %q: write numbers and ranges, such as 3,7,20..22", flag, list)
		}
		if to-from >= maxSeeds || len(out)+int(to-from) >= maxSeeds {
			return nil, badInputf("--%s %q: more than %d numbers", flag, list, maxSeeds)
		}
		for n := uint64(0); n <= to-from; n++ {
			seed := from + n
			if seen[seed] {
				return nil, badInputf("--%s %q: %d is there twice", flag, list, seed)
			}
			seen[seed] = true
			out = append(out, seed)
		}
	}
	return out, nil
}
