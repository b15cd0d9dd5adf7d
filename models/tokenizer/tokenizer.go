package tokenizer

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// kind tells the two families apart.
type kind uint8

const (
	qwen kind = iota
	clip
)

func (k kind) String() string {
	if k == clip {
		return "CLIP"
	}
	return "Qwen"
}

// Sizes of the published Qwen2.5-VL vocabulary, by which it is recognised.
const (
	publishedQwenVocab  = 151643
	publishedQwenMerges = 151387
)

// Tokenizer is an opened vocabulary. Make one with OpenQwen or OpenCLIP.
type Tokenizer struct {
	kind      kind
	ids       map[string]int32 // symbols of the vocabulary
	merges    map[uint64]merge // by the pair of ids
	bytes     [2][256]int32    // ids of single bytes; [1] with the end-of-word mark
	text      map[int32]string // what an id stands for: bytes for symbols, the content for added tokens
	added     []addedToken     // longest first
	starts    [256]bool        // first bytes of added tokens, to pass over the others quickly
	special   map[int32]bool   // ids that Decode may skip
	bos, eos  int32            // CLIP only
	pad       int32
	published bool
}

// OpenQwen opens the tokenizer of Qwen2.5-VL in a folder. Errors name the file at fault.
func OpenQwen(dir string) (*Tokenizer, error) { return OpenQwenIn(nil, dir) }

// OpenCLIP opens the tokenizer of CLIP in a folder. Errors name the file at fault.
func OpenCLIP(dir string) (*Tokenizer, error) { return OpenCLIPIn(nil, dir) }

// OpenQwenIn is OpenQwen for a folder of a file system, such as files embedded in the program; nil is the system's own.
func OpenQwenIn(files fs.FS, dir string) (*Tokenizer, error) {
	return open(dir, qwen, reader(files, dir, qwen))
}

// OpenCLIPIn is OpenCLIP for a folder of a file system; nil is the system's own.
func OpenCLIPIn(files fs.FS, dir string) (*Tokenizer, error) {
	return open(dir, clip, reader(files, dir, clip))
}

// reader reads whole files. The names in a file system have slashes, whatever the system's paths have.
// A GGUF file may hold a tokenizer as a folder does.
func reader(files fs.FS, dir string, k kind) func(path string) ([]byte, error) {
	switch {
	case files == nil && strings.EqualFold(filepath.Ext(dir), ".gguf"):
		return fromGGUF(k)
	case files == nil:
		return readBounded
	}
	return func(path string) ([]byte, error) { return fs.ReadFile(files, filepath.ToSlash(path)) }
}

func open(dir string, k kind, read func(path string) ([]byte, error)) (*Tokenizer, error) {
	src, err := load(dir, read)
	if err == nil {
		var t *Tokenizer
		if t, err = build(src, k); err == nil {
			return t, nil
		}
		err = fmt.Errorf("%s: %w", src.path, err)
	}
	return nil, fmt.Errorf("tokenizer: open %s tokenizer: %w", k, err)
}

// Published reports whether this is the vocabulary of the published Qwen2.5-VL, for which the templates' crop
// constants were measured.
func (t *Tokenizer) Published() bool { return t.published }

// ID returns the id of a symbol or of an added token such as "<|image_pad|>".
func (t *Tokenizer) ID(token string) (int32, bool) {
	for _, a := range t.added {
		if a.content == token {
			return a.id, true
		}
	}
	id, ok := t.ids[token]
	return id, ok
}

// Pad is the id of the padding token.
func (t *Tokenizer) Pad() int32 { return t.pad }

// Size is one more than the largest id the tokenizer can produce: an encoder's embedding must have so many rows.
func (t *Tokenizer) Size() int {
	largest := int32(-1)
	for id := range t.text {
		largest = max(largest, id)
	}
	return int(largest) + 1
}

// Encode returns the ids of a text, without start, end or padding tokens. Added tokens written in the text are
// recognised as such.
func (t *Tokenizer) Encode(text string) []int32 {
	text = strings.ToValidUTF8(text, "\uFFFD")
	ids := []int32{}
	t.cut(text, false, func(piece string, id int32) {
		if id >= 0 {
			ids = append(ids, id)
			return
		}
		t.cut(t.normalise(piece), true, func(piece string, id int32) {
			if id >= 0 {
				ids = append(ids, id)
				return
			}
			for word := range t.split(piece) {
				ids = t.merge(ids, word)
			}
		})
	})
	return ids
}

// Decode returns the text of ids. Bytes that are not valid UTF-8 become U+FFFD; unknown ids are left out; with
// skipSpecial so are special tokens. For CLIP, words are separated by one space.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	var b strings.Builder
	for _, id := range ids {
		if !skipSpecial || !t.special[id] {
			b.WriteString(t.text[id])
		}
	}
	text := lossy(b.String())
	if t.kind == clip {
		text = strings.TrimSpace(strings.ReplaceAll(text, endOfWord, " "))
	}
	return text
}

// cut splits text at added tokens, leftmost first and longest first, and calls yield for each piece of text (id -1)
// and each token. Tokens are looked for either in the raw or in the normalised text, as each says.
func (t *Tokenizer) cut(text string, normalised bool, yield func(piece string, id int32)) {
	start := 0
	for i := 0; i < len(text); i++ {
		if !t.starts[text[i]] {
			continue
		}
		n := slices.IndexFunc(t.added, func(a addedToken) bool {
			return a.normalised == normalised && strings.HasPrefix(text[i:], a.content)
		})
		if n < 0 {
			continue
		}
		if i > start {
			yield(text[start:i], -1)
		}
		yield("", t.added[n].id)
		start = i + len(t.added[n].content)
		i = start - 1
	}
	if start < len(text) {
		yield(text[start:], -1)
	}
}
