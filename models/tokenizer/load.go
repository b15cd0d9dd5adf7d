package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Bounds of what vocabulary files may hold; the published ones stay far below.
const (
	maxFile   = 64 << 20 // bytes
	maxTokens = 1 << 21
	maxAdded  = 1 << 12
)

// addedToken is a token that is recognised in a text as a whole.
type addedToken struct {
	content    string
	id         int32
	special    bool // left out by Decode on request
	normalised bool // looked for in the normalised text instead of the raw one
}

// source is what the files of a tokenizer say, before it is checked.
type source struct {
	path   string // the file or folder to blame
	vocab  map[string]int32
	merges [][2]string
	suffix *string // the end-of-word mark, where the file says
	added  []addedToken
	roles  map[string]string // "bos_token", "eos_token", "pad_token", "unk_token"
}

// load reads a folder through read: tokenizer.json when there is one, else vocab.json and merges.txt; and
// tokenizer_config.json.
func load(dir string, read func(path string) ([]byte, error)) (*source, error) {
	src := &source{path: dir, roles: map[string]string{}}
	whole := filepath.Join(dir, "tokenizer.json")
	data, err := read(whole)
	switch {
	case err == nil:
		src.path = whole
		err = src.parseTokenizer(data)
	case errors.Is(err, os.ErrNotExist):
		err = src.loadPair(dir, read)
	}
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "tokenizer_config.json")
	data, err = read(config)
	if errors.Is(err, os.ErrNotExist) {
		return src, nil
	}
	if err == nil {
		if err = src.parseConfig(data); err != nil {
			err = fmt.Errorf("%s: %w", config, err)
		}
	}
	return src, err
}

func (s *source) loadPair(dir string, read func(path string) ([]byte, error)) error {
	vocab, merges := filepath.Join(dir, "vocab.json"), filepath.Join(dir, "merges.txt")
	data, err := read(vocab)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds neither tokenizer.json nor vocab.json", dir)
	}
	if err != nil {
		return err
	}
	if s.vocab, err = parseVocab(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return fmt.Errorf("%s: %w", vocab, err)
	}
	if data, err = read(merges); err != nil {
		return err
	}
	if s.merges, err = parseMerges(string(data)); err != nil {
		return fmt.Errorf("%s: %w", merges, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d MiB, which no tokenizer needs", path, maxFile>>20)
	}
	return data, nil
}

// parseVocab reads one JSON object of symbols and ids; neither may repeat.
func parseVocab(dec *json.Decoder) (map[string]int32, error) {
	dec.UseNumber()
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return nil, fmt.Errorf("vocabulary is not a JSON object: %w", errOr(err, errors.New("no opening brace")))
	}
	vocab, seen := map[string]int32{}, map[int32]string{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("vocabulary: invalid JSON: %w", err)
		}
		symbol := key.(string)
		value, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("vocabulary: invalid JSON: %w", err)
		}
		number, _ := value.(json.Number)
		id, err := strconv.ParseInt(number.String(), 10, 32)
		if err != nil || id < 0 || id > math.MaxInt32/2 {
			return nil, fmt.Errorf("vocabulary: %q has no valid id: %v", symbol, value)
		}
		if _, dup := vocab[symbol]; dup {
			return nil, fmt.Errorf("vocabulary: %q appears twice", symbol)
		}
		if other, dup := seen[int32(id)]; dup {
			return nil, fmt.Errorf("vocabulary: %q and %q have the same id %d", other, symbol, id)
		}
		if len(vocab) == maxTokens {
			return nil, fmt.Errorf("vocabulary: more than %d symbols", maxTokens)
		}
		vocab[symbol], seen[int32(id)] = int32(id), symbol
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("vocabulary: invalid JSON: %w", err)
	}
	return vocab, nil
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// parseMerges reads merges.txt: one pair per line, rank by line. A first line that starts with #version is skipped;
// later ones may begin with # too.
func parseMerges(text string) ([][2]string, error) {
	var merges [][2]string
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || number == 1 && strings.HasPrefix(line, "#version") {
			continue
		}
		pair, err := parsePair(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if len(merges) == maxTokens {
			return nil, fmt.Errorf("more than %d merges", maxTokens)
		}
		merges = append(merges, pair)
	}
	return merges, nil
}

func parsePair(line string) ([2]string, error) {
	left, right, ok := strings.Cut(line, " ")
	if !ok || left == "" || right == "" || strings.Contains(right, " ") {
		return [2]string{}, fmt.Errorf("%.80q is not a pair of symbols with one space between", line)
	}
	return [2]string{left, right}, nil
}

// parseTokenizer reads tokenizer.json: the parts of it that differ between vocabularies. Normaliser and splitter are
// fixed by the family.
func (s *source) parseTokenizer(data []byte) error {
	var file struct {
		Added []addedJSON `json:"added_tokens"`
		Model struct {
			Type   string          `json:"type"`
			Suffix *string         `json:"end_of_word_suffix"`
			Vocab  json.RawMessage `json:"vocab"`
			Merges json.RawMessage `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return fmt.Errorf("%s: invalid JSON: %w", s.path, err)
	}
	if file.Model.Type != "" && file.Model.Type != "BPE" {
		return fmt.Errorf("%s: model type %q, want BPE", s.path, file.Model.Type)
	}
	vocab, err := parseVocab(json.NewDecoder(bytes.NewReader(file.Model.Vocab)))
	if err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	s.vocab = vocab
	if file.Model.Suffix == nil {
		file.Model.Suffix = new(string)
	}
	s.suffix = file.Model.Suffix
	if s.merges, err = parseMergesJSON(file.Model.Merges); err != nil {
		return fmt.Errorf("%s: %w", s.path, err)
	}
	for _, a := range file.Added {
		if a.ID == nil {
			return fmt.Errorf("%s: added token %q has no id", s.path, a.Content)
		}
		if err := s.add(a, *a.ID); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return nil
}

// parseMergesJSON takes both published forms: "left right" and ["left", "right"].
func parseMergesJSON(data json.RawMessage) ([][2]string, error) {
	var lines []string
	if err := json.Unmarshal(data, &lines); err == nil {
		merges := make([][2]string, len(lines))
		for i, line := range lines {
			if merges[i], err = parsePair(line); err != nil {
				return nil, fmt.Errorf("merge %d: %w", i, err)
			}
		}
		return merges, nil
	}
	var pairs [][]string
	if err := json.Unmarshal(data, &pairs); err != nil {
		return nil, errors.New("model has no valid list of merges")
	}
	merges := make([][2]string, len(pairs))
	for i, p := range pairs {
		if len(p) != 2 || p[0] == "" || p[1] == "" {
			return nil, fmt.Errorf("merge %d: %.80q is not a pair of symbols", i, p)
		}
		merges[i] = [2]string{p[0], p[1]}
	}
	return merges, nil
}

// addedJSON is an added token in either file.
type addedJSON struct {
	ID         *int64 `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// add records an added token, unless it is known already.
func (s *source) add(a addedJSON, id int64) error {
	switch {
	case a.Content == "":
		return fmt.Errorf("added token %d is empty", id)
	case id < 0 || id > math.MaxInt32/2:
		return fmt.Errorf("added token %q has the impossible id %d", a.Content, id)
	case a.SingleWord || a.LStrip || a.RStrip:
		return fmt.Errorf("added token %q uses single_word, lstrip or rstrip, which no published tokenizer of these models does", a.Content)
	case len(s.added) == maxAdded:
		return fmt.Errorf("more than %d added tokens", maxAdded)
	}
	for _, b := range s.added {
		if b.content == a.Content && int64(b.id) == id {
			return nil
		}
		if b.content == a.Content || int64(b.id) == id {
			return fmt.Errorf("added tokens %q (%d) and %q (%d) are in conflict", b.content, b.id, a.Content, id)
		}
	}
	s.added = append(s.added, addedToken{a.Content, int32(id), a.Special, a.Normalized})
	return nil
}
