package weights

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Keys under which kandinsky.cpp keeps a text encoder's tokenizer, as the texts of vocab.json and merges.txt.
const (
	GGUFVocab  = "tokenizer.vocab_json"
	GGUFMerges = "tokenizer.merges_txt"
)

// EmbeddedTokenizer returns the tokenizer that a GGUF file holds.
func EmbeddedTokenizer(path string) (vocab, merges []byte, err error) {
	f, err := Open(path)
	if err != nil {
		return nil, nil, err
	}
	vocab, merges = []byte(f.long[GGUFVocab]), []byte(f.long[GGUFMerges])
	if err := f.Close(); err != nil {
		return nil, nil, err
	}
	if len(vocab) == 0 || len(merges) == 0 {
		return nil, nil, fmt.Errorf("weights: %s: holds no tokenizer (%s and %s)", path, GGUFVocab, GGUFMerges)
	}
	return vocab, merges, nil
}

// ggufWithTokenizer returns the GGUF file of a network, given by file or folder, if it holds a tokenizer; else "". Files that
// cannot be read are left to whoever opens the network.
func ggufWithTokenizer(path string) string {
	if isDir(path) {
		single, _, err := listFolder(path)
		if err != nil || len(single) != 1 {
			return ""
		}
		path = single[0]
	}
	if !strings.EqualFold(filepath.Ext(path), ggufSuffix) || !isFile(path) {
		return ""
	}
	if _, _, err := EmbeddedTokenizer(path); err != nil {
		return ""
	}
	return path
}
