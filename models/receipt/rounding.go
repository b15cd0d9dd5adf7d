package receipt

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Rounding is what decides the last bits of what is computed, besides settings and weights: where two runs agree in all of it,
// their bits are equal. Texts are empty where nothing is known. A run that went on elsewhere has "A to step N, then B".
type Rounding struct {
	Device   string `json:"device"`             // its name
	Driver   string `json:"driver"`             // with its version
	Kernels  string `json:"kernels"`            // the tier
	Matrices string `json:"matrices"`           // that kernels multiply, and how they build them
	Operands string `json:"linear_operands"`    // PackedOperands or PlainOperands
	Adapters string `json:"adapters,omitempty"` // where they are added to the visual blocks: host or device
	Tuned    string `json:"tuned"`              // how many tiles were measured on the device, and their digest
	Code     string `json:"kernel_code"`        // digest of all kernels that the program has
	Tiles    string `json:"decode_tiles"`
}

// Values of Rounding.Operands: whether the operands of linear layers are packed for the matrix units, for which there must be
// room.
const (
	PackedOperands = "packed"
	PlainOperands  = "not packed"
)

// Pairs lists what is known under names for people.
func (r Rounding) Pairs() []Pair {
	return []Pair{
		{"device", r.Device}, {"driver", r.Driver}, {"kernel tier", r.Kernels}, {"matrices", r.Matrices}, {"operands of linear layers", r.Operands},
		{"place where adapters are added", r.Adapters}, {"tuned tiles", r.Tuned}, {"code of kernels", r.Code}, {"decode tiles", r.Tiles},
	}
}

// Against lists in what another Rounding differs, of what both know.
func (r Rounding) Against(other Rounding) []Difference {
	var out []Difference
	theirs := other.Pairs()
	for k, p := range r.Pairs() {
		if b := theirs[k].Value; p.Value != "" && b != "" && p.Value != b {
			out = append(out, Difference{Kind: KindNote, Name: p.Name, A: short(p.Value), B: short(b)})
		}
	}
	return out
}

// After is the Rounding of a run that was computed as before says up to a step, and as r says since. Frames are decoded at the
// end alone.
func (r Rounding) After(before Rounding, step int) Rounding {
	if step == 0 {
		return r
	}
	join := func(was, now string) string {
		if was == "" || was == now || strings.HasSuffix(was, ", then "+now) {
			return was
		}
		return fmt.Sprintf("%s to step %d, then %s", was, step, now)
	}
	return Rounding{
		Device: join(before.Device, r.Device), Driver: join(before.Driver, r.Driver), Kernels: join(before.Kernels, r.Kernels), Matrices: join(before.Matrices, r.Matrices),
		Operands: join(before.Operands, r.Operands), Adapters: join(before.Adapters, r.Adapters), Tuned: join(before.Tuned, r.Tuned), Code: join(before.Code, r.Code),
		Tiles: r.Tiles,
	}
}

// Check refuses texts that no run writes. The error is one line.
func (r Rounding) Check() error {
	c := &checker{}
	for _, p := range r.Pairs() {
		c.name("rounding: "+p.Name, p.Value)
	}
	return c.err
}

// Known is the receipt's Rounding; of receipts that have none, what their device tells of it.
func (r *Receipt) Known() Rounding {
	out := r.Rounding
	if out.Device == "" {
		out.Device, out.Driver, out.Kernels = r.Device.Name, r.Device.Driver, r.Device.Kernels
	}
	return out
}

// rounding notes what decides last bits, and suspects it of what differs.
func (c *comparer) rounding(a, b *Receipt) {
	found := a.Known().Against(b.Known())
	// Tiles are compared by themselves, and the code of those kernels that were used tells more than that of all.
	found = slices.DeleteFunc(found, func(d Difference) bool {
		return d.Name == "decode tiles" || d.Name == "code of kernels" && len(a.Device.Shaders) > 0 && len(b.Device.Shaders) > 0
	})
	if names := changedKeys(a.Device.Tuned, b.Device.Tuned); len(names) > 0 {
		found = slices.DeleteFunc(found, func(d Difference) bool { return d.Name == "tuned tiles" })
		k := names[0]
		found = append(found, Difference{Kind: KindNote, Name: "tuned tiles of " + some(names), A: a.Device.Tuned[k], B: b.Device.Tuned[k]})
	}
	c.Notes, c.suspects = append(c.Notes, found...), append(c.suspects, found...)
}

// changedKeys are the keys, sorted, whose values two maps do not have in common.
func changedKeys(a, b map[string]string) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, b)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(k string) bool { return a[k] == b[k] })
}

// computed says whether what was computed differs, and not only what was asked for.
func (c *comparer) computed() bool {
	return slices.ContainsFunc(c.Differences, func(d Difference) bool {
		switch d.Kind {
		case KindText, KindFrame, KindNoise, KindStep, KindFinal, KindOutput:
			return true
		}
		return false
	})
}
