package bytelevel

import "testing"

func TestAlphabetIsTheOneOfGPT2(t *testing.T) {
	a := Alphabet()
	for b, want := range map[int]rune{0: 0x100, ' ': 'Ġ', '\n': 'Ċ', '!': '!', '~': '~', 127: 'ġ', 160: 'ł', 161: '¡', 173: 'Ń', 255: 'ÿ'} {
		if a[b] != want {
			t.Errorf("byte %d is %c, want %c", b, a[b], want)
		}
	}
	back := Bytes()
	if len(back) != 256 {
		t.Fatalf("%d distinct characters, want 256", len(back))
	}
	for b, r := range a {
		if back[r] != byte(b) {
			t.Errorf("%c maps back to %d, want %d", r, back[r], b)
		}
	}
}

func TestOrderListsEachByteOnceAndPrintableOnesFirst(t *testing.T) {
	o := Order()
	seen := map[byte]bool{}
	for _, b := range o {
		seen[b] = true
	}
	// Ids of the published vocabularies: "!" 0, "~" 93, "¡" 94, "ÿ" 187, "Ā" (byte 0) 188, "Ġ" (space) 220.
	if len(seen) != 256 || o[0] != '!' || o[93] != '~' || o[94] != 161 || o[187] != 255 || o[188] != 0 || o[220] != ' ' {
		t.Errorf("order %v", o)
	}
}
