package pcie

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

// card writes what the kernel would tell of a card.
func card(t *testing.T, dir, name string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinkOfACard(t *testing.T) {
	dir := t.TempDir()
	gpu := map[string]string{"vendor": "0x10de", "device": "0x2330", "current_link_speed": "32.0 GT/s PCIe", "max_link_speed": "32.0 GT/s PCIe",
		"current_link_width": "8", "max_link_width": "16"}
	card(t, dir, "0000:01:00.0", gpu)
	card(t, dir, "0000:02:00.0", map[string]string{"vendor": "0x10de", "device": "0x22a3"})
	card(t, dir, "0000:03:00.0", map[string]string{"vendor": "junk", "device": "0xzz"})
	l, ok := of(dir, 0x10de, 0x2330)
	if !ok || l != (Link{32, 32, 8, 16}) || l.String() != "32 GT/s ×8" || math.Abs(l.Rate()-31.5e9) > 0.1e9 {
		t.Errorf("link %+v, %v, %g bytes a second", l, ok, l.Rate())
	}
	if _, ok := of(dir, 0x10de, 0x22a3); ok {
		t.Error("a card that tells no link has one")
	}
	if _, ok := of(dir, 0x1002, 0x2330); ok {
		t.Error("a card that is not there has a link")
	}
	card(t, dir, "0000:04:00.0", gpu)
	if _, ok := of(dir, 0x10de, 0x2330); !ok {
		t.Error("two cards with the same link have none")
	}
	gpu["current_link_width"] = "4"
	card(t, dir, "0000:04:00.0", gpu)
	if _, ok := of(dir, 0x10de, 0x2330); ok {
		t.Error("two cards with different links have one")
	}
	if r := (Link{Speed: 5, Width: 4}).Rate(); r != 2e9 {
		t.Errorf("PCIe 2.0 ×4 carries %g bytes a second", r)
	}
}
