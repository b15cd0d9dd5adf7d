// Package bytelevel is the byte alphabet of GPT-2's tokenizer, which Qwen and CLIP use too: one printable character
// for each of the 256 byte values, so that vocabularies can be text files.
//
// Bytes 33–126, 161–172 and 174–255 stand for themselves; the other 68, in increasing order, become U+0100, U+0101, …
// (openai/gpt-2, src/encoder.py).
package bytelevel

// Alphabet returns the character of each byte.
func Alphabet() [256]rune {
	var out [256]rune
	next := rune(0x100)
	for b := range out {
		if printable(b) {
			out[b] = rune(b)
		} else {
			out[b] = next
			next++
		}
	}
	return out
}

// Order returns the bytes in the order of the published vocabularies: those that stand for themselves, then the
// others.
func Order() [256]byte {
	var out [256]byte
	i := 0
	for _, want := range []bool{true, false} {
		for b := range 256 {
			if printable(b) == want {
				out[i] = byte(b)
				i++
			}
		}
	}
	return out
}

// Bytes returns the inverse of Alphabet.
func Bytes() map[rune]byte {
	out := make(map[rune]byte, 256)
	for b, r := range Alphabet() {
		out[r] = byte(b)
	}
	return out
}

func printable(b int) bool {
	return b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174
}
