package tokenizer

import (
	"fmt"
	"sort"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/bytelevel"
)

// Tokens that the families fall back to when no file gives a token that role.
const (
	qwenPad   = "<|endoftext|>"
	clipStart = "<|startoftext|>"
	clipEnd   = "<|endoftext|>"
)

// build checks a source and makes the tables.
func build(src *source, k kind) (*Tokenizer, error) {
	t := &Tokenizer{kind: k, ids: src.vocab, text: make(map[int32]string, len(src.vocab)), special: map[int32]bool{}}
	if src.suffix != nil && (*src.suffix == endOfWord) != (k == clip) {
		return nil, fmt.Errorf("end_of_word_suffix %q does not belong to a %s tokenizer", *src.suffix, k)
	}
	if err := t.setBytes(); err != nil {
		return nil, err
	}
	if err := t.setMerges(src.merges); err != nil {
		return nil, err
	}
	alphabet := bytelevel.Bytes()
	for symbol, id := range src.vocab {
		t.text[id] = symbolText(symbol, alphabet)
	}
	if err := t.setAdded(src); err != nil {
		return nil, err
	}
	if err := t.setRoles(src.roles); err != nil {
		return nil, err
	}
	for _, a := range t.added {
		t.starts[a.content[0]] = true
	}
	t.published = k == qwen && len(src.vocab) == publishedQwenVocab && len(src.merges) == publishedQwenMerges && t.pad == publishedQwenVocab
	return t, nil
}

// setBytes demands a symbol for each byte, without which some texts could not be encoded.
func (t *Tokenizer) setBytes() error {
	for b, r := range bytelevel.Alphabet() {
		for end, suffix := range [...]string{"", endOfWord} {
			if end == 1 && t.kind != clip {
				continue
			}
			id, ok := t.ids[string(r)+suffix]
			if !ok {
				return fmt.Errorf("the vocabulary has no symbol %q for byte %#02x: not a byte-level %s vocabulary", string(r)+suffix, b, t.kind)
			}
			t.bytes[end][b] = id
		}
	}
	return nil
}

func (t *Tokenizer) setMerges(pairs [][2]string) error {
	t.merges = make(map[uint64]merge, len(pairs))
	for rank, p := range pairs {
		var ids [3]int32
		for i, symbol := range []string{p[0], p[1], p[0] + p[1]} {
			id, ok := t.ids[symbol]
			if !ok {
				return fmt.Errorf("merge %d (%.80q): the vocabulary has no symbol %.80q", rank, p[0]+" "+p[1], symbol)
			}
			ids[i] = id
		}
		key := pairKey(ids[0], ids[1])
		if _, dup := t.merges[key]; dup {
			return fmt.Errorf("merge %d (%.80q) repeats an earlier one", rank, p[0]+" "+p[1])
		}
		t.merges[key] = merge{int32(rank), ids[2]}
	}
	return nil
}

// symbolText maps a symbol's characters back to bytes; one that is not made of the alphabet stands for itself. CLIP's
// end-of-word mark is ASCII and stays.
func symbolText(symbol string, alphabet map[rune]byte) string {
	out := make([]byte, 0, len(symbol))
	for _, r := range symbol {
		b, ok := alphabet[r]
		if !ok {
			return symbol
		}
		out = append(out, b)
	}
	return string(out)
}

// setAdded checks the added tokens against the vocabulary and sorts them for matching.
func (t *Tokenizer) setAdded(src *source) error {
	for _, a := range src.added {
		if id, ok := src.vocab[a.content]; ok && id != a.id {
			return fmt.Errorf("added token %q has id %d, but the vocabulary says %d", a.content, a.id, id)
		} else if _, taken := t.text[a.id]; taken && !ok {
			return fmt.Errorf("added token %q has id %d, which belongs to a symbol of the vocabulary", a.content, a.id)
		}
		t.text[a.id] = a.content
		if a.special {
			t.special[a.id] = true
		}
		if a.normalised {
			a.content = t.normalise(a.content)
		}
		t.added = append(t.added, a)
	}
	sort.SliceStable(t.added, func(i, j int) bool { return len(t.added[i].content) > len(t.added[j].content) })
	return nil
}

// setRoles finds the ids of the tokens that frame and pad a text.
func (t *Tokenizer) setRoles(roles map[string]string) error {
	find := func(role, fallback string) (int32, error) {
		content := fallback
		if roles[role] != "" {
			content = roles[role]
		}
		id, ok := t.ID(content)
		if !ok {
			return 0, fmt.Errorf("%s %q has no id: it is missing from the vocabulary and from added_tokens_decoder (tokenizer_config.json)",
				strings.ReplaceAll(role, "_", " "), content)
		}
		return id, nil
	}
	var err error
	if t.kind == qwen {
		t.pad, err = find("pad_token", qwenPad)
		return err
	}
	if t.bos, err = find("bos_token", clipStart); err != nil {
		return err
	}
	if t.eos, err = find("eos_token", clipEnd); err != nil {
		return err
	}
	// A vocabulary alone makes these tokens special too.
	t.special[t.bos], t.special[t.eos] = true, true
	for _, content := range []string{clipStart, clipEnd} {
		id, ok := t.ids[content]
		if ok && !t.hasAdded(id) {
			t.added = append(t.added, addedToken{content: content, id: id, special: true})
		}
	}
	t.pad, err = find("pad_token", clipEnd)
	return err
}

func (t *Tokenizer) hasAdded(id int32) bool {
	for _, a := range t.added {
		if a.id == id {
			return true
		}
	}
	return false
}
