package weights

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"
)

const (
	// maxHeader is the format's own limit on the JSON header, in bytes.
	maxHeader = 100_000_000
	// maxRank bounds the number of axes; published networks have at most five.
	maxRank = 16
)

// entry is one tensor of a header. Offsets are bytes from the start of the data section.
type entry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int64
}

// parseHeader reads the JSON header of a safetensors file whose data section is dataLen bytes long. The entries
// come back sorted by name; they tile the data section exactly. Errors do not name the file.
func parseHeader(header []byte, dataLen int64) ([]entry, map[string]string, error) {
	if !utf8.Valid(header) {
		return nil, nil, errors.New("header is not valid UTF-8")
	}
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("header does not start with {: not a safetensors file")
	}
	dec := json.NewDecoder(bytes.NewReader(header))
	dec.UseNumber()
	var entries []entry
	var metadata map[string]string
	seen := map[string]bool{}
	err := eachKey(dec, func(name string) (err error) {
		if seen[name] {
			return fmt.Errorf("header names %q twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			metadata, err = parseMetadata(dec)
			return err
		}
		e, err := parseEntry(dec, name)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, nil, errors.New("text after the closing brace of the header")
	}
	if err := checkTiling(entries, dataLen); err != nil {
		return nil, nil, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].name < entries[j].name })
	return entries, metadata, nil
}

// eachKey consumes one JSON object and calls value, which must consume the value, for each key.
func eachKey(dec *json.Decoder, value func(key string) error) error {
	if err := wantDelim(dec, '{', "an object"); err != nil {
		return err
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return jsonError(err)
		}
		if err := value(tok.(string)); err != nil {
			return err
		}
	}
	return wantDelim(dec, '}', "the end of an object")
}

func wantDelim(dec *json.Decoder, want json.Delim, what string) error {
	tok, err := dec.Token()
	if err != nil {
		return jsonError(err)
	}
	if tok != want {
		return fmt.Errorf("JSON holds %v where %s should be", tok, what)
	}
	return nil
}

func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("JSON ends in the middle: file truncated or damaged")
	}
	return fmt.Errorf("invalid JSON: %w", err)
}

func parseMetadata(dec *json.Decoder) (map[string]string, error) {
	metadata := map[string]string{}
	err := eachKey(dec, func(key string) error {
		tok, err := dec.Token()
		if err != nil {
			return jsonError(err)
		}
		text, ok := tok.(string)
		if !ok {
			return fmt.Errorf("metadata %q is not a string", key)
		}
		if _, dup := metadata[key]; dup {
			return fmt.Errorf("metadata names %q twice", key)
		}
		metadata[key] = text
		return nil
	})
	return metadata, err
}

func parseEntry(dec *json.Decoder, name string) (entry, error) {
	e := entry{name: name, begin: -1}
	seen := map[string]bool{}
	err := eachKey(dec, func(key string) error {
		if seen[key] {
			return fmt.Errorf("%q given twice", key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			tok, err := dec.Token()
			if err != nil {
				return jsonError(err)
			}
			text, ok := tok.(string)
			if !ok {
				return errors.New("dtype is not a string")
			}
			e.dtype, err = ParseDType(text)
			if err == nil && e.dtype.Size() == 0 {
				err = fmt.Errorf("element type %s is not of this file format", e.dtype)
			}
			return err
		case "shape":
			shape, err := parseInts(dec, "shape", maxRank)
			for _, n := range shape {
				if n > math.MaxInt {
					return fmt.Errorf("shape has an impossible extent %d", n)
				}
				e.shape = append(e.shape, int(n))
			}
			return err
		case "data_offsets":
			offsets, err := parseInts(dec, "data_offsets", 2)
			if err == nil && len(offsets) != 2 {
				err = fmt.Errorf("data_offsets has %d numbers, want 2", len(offsets))
			}
			if err == nil {
				e.begin, e.end = offsets[0], offsets[1]
			}
			return err
		default:
			return fmt.Errorf("unknown key %q", key)
		}
	})
	if err != nil {
		return e, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return e, fmt.Errorf("has no %s", key)
		}
	}
	return e, checkSize(e)
}

// parseInts reads an array of at most limit non-negative integers.
func parseInts(dec *json.Decoder, what string, limit int) ([]int64, error) {
	if err := wantDelim(dec, '[', what); err != nil {
		return nil, err
	}
	numbers := []int64{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		text, ok := tok.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%s holds something that is not a number", what)
		}
		n, err := strconv.ParseInt(text.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%s holds %s, want an integer from 0 to 2^63-1", what, text)
		}
		if len(numbers) == limit {
			return nil, fmt.Errorf("%s has more than %d numbers", what, limit)
		}
		numbers = append(numbers, n)
	}
	return numbers, wantDelim(dec, ']', "the end of "+what)
}

func checkSize(e entry) error {
	if e.begin > e.end {
		return fmt.Errorf("data_offsets %d, %d run backwards", e.begin, e.end)
	}
	want, ok := byteSize(e.shape, e.dtype)
	if !ok {
		return fmt.Errorf("shape %v of %s overflows", e.shape, e.dtype)
	}
	if got := e.end - e.begin; got != want {
		return fmt.Errorf("shape %v of %s takes %d bytes but data_offsets give %d", e.shape, e.dtype, want, got)
	}
	return nil
}

// byteSize is the number of bytes of a tensor, or false when that does not fit an int64, or when records of several
// elements do not fill its rows.
func byteSize(shape []int, d DType) (int64, bool) {
	n := int64(d.Size())
	if b := d.Block(); b != 0 {
		last := len(shape) - 1
		if last < 0 || shape[last]%b.Len() != 0 {
			return 0, false
		}
		n = int64(b.Bytes())
		shape = append(slices.Clone(shape[:last]), shape[last]/b.Len())
	}
	for _, extent := range shape {
		if extent == 0 {
			return 0, true
		}
	}
	for _, extent := range shape {
		if n > math.MaxInt64/int64(extent) {
			return 0, false
		}
		n *= int64(extent)
	}
	return n, true
}

// checkTiling demands that the tensors cover the data section without hole or overlap, as the format says.
func checkTiling(entries []entry, dataLen int64) error {
	var at int64
	for _, e := range inOrder(entries) {
		switch {
		case e.end > dataLen:
			return fmt.Errorf("tensor %q ends at byte %d of the data, which has only %d: file truncated or damaged", e.name, e.end, dataLen)
		case e.begin < at:
			return fmt.Errorf("tensor %q starts at byte %d, inside the tensor before it", e.name, e.begin)
		case e.begin > at:
			return fmt.Errorf("tensor %q starts at byte %d but the one before it ends at %d", e.name, e.begin, at)
		}
		at = e.end
	}
	if at != dataLen {
		return fmt.Errorf("the data section has %d bytes but the tensors cover %d", dataLen, at)
	}
	return nil
}

// inOrder returns entries as they lie in the data.
func inOrder(entries []entry) []entry {
	return slices.SortedFunc(slices.Values(entries), func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end))
	})
}
