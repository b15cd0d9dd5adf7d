// Package pcie tells by which PCI Express link a card is connected, where the system says it (Linux).
package pcie

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Link is a link as it is now and as it could be. Cards lower the speed while they are idle.
type Link struct {
	Speed, MaxSpeed float64 // GT/s of a lane
	Width, MaxWidth int     // lanes
}

// Rate is the bytes a second that the link carries in one direction at best: encoding takes 2 of 130 bits from 8 GT/s on,
// and 2 of 10 before.
func (l Link) Rate() float64 {
	share := 128.0 / 130
	if l.Speed < 8 {
		share = 0.8
	}
	return l.Speed * 1e9 / 8 * share * float64(l.Width)
}

func (l Link) String() string { return fmt.Sprintf("%g GT/s ×%d", l.Speed, l.Width) }

// Of returns the link of the card with these numbers; false where the system does not tell, or several such cards have
// different ones.
func Of(vendor, device uint32) (Link, bool) { return of("/sys/bus/pci/devices", vendor, device) }

func of(dir string, vendor, device uint32) (found Link, ok bool) {
	cards, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return Link{}, false
	}
	for _, card := range cards {
		if number(card, "vendor") != float64(vendor) || number(card, "device") != float64(device) {
			continue
		}
		l := Link{Speed: number(card, "current_link_speed"), MaxSpeed: number(card, "max_link_speed"),
			Width: int(number(card, "current_link_width")), MaxWidth: int(number(card, "max_link_width"))}
		if l.Speed <= 0 || l.Width <= 0 || ok && l != found {
			return Link{}, false
		}
		found, ok = l, true
	}
	return found, ok
}

// number reads the number that a file begins with, 0 where there is none: "0x10de", "16", "16.0 GT/s PCIe".
func number(card, file string) float64 {
	data, err := os.ReadFile(filepath.Join(card, file))
	if err != nil {
		return 0
	}
	word, _, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	if hex, ok := strings.CutPrefix(word, "0x"); ok {
		n, err := strconv.ParseUint(hex, 16, 32)
		if err != nil {
			return 0
		}
		return float64(n)
	}
	n, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return 0
	}
	return n
}
