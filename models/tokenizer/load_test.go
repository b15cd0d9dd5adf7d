package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/internal/bytelevel"
)

// smallFiles are sound files of a Qwen tokenizer with 256 bytes, "th", "the" and two added tokens.
func smallFiles() map[string]string {
	vocab := map[string]int{"th": 256, "the": 257}
	alphabet := bytelevel.Alphabet()
	for i, b := range bytelevel.Order() {
		vocab[string(alphabet[b])] = i
	}
	text, _ := json.Marshal(vocab) // strings and integers cannot fail
	return map[string]string{
		"vocab.json":            string(text),
		"merges.txt":            "#version: 0.2\nt h\r\nth e\n\n",
		"tokenizer_config.json": `{"added_tokens_decoder":{"300":{"content":"<|endoftext|>","special":true},"301":{"content":"<|im_end|>","special":true}},"pad_token":"<|endoftext|>"}`,
	}
}

// wholeFile is smallFiles as one tokenizer.json.
func wholeFile(merges string) string {
	return fmt.Sprintf(`{"version":"1.0","added_tokens":[{"id":300,"content":"<|endoftext|>","special":true},{"id":301,"content":"<|im_end|>","special":true}],
		"model":{"type":"BPE","vocab":%s,"merges":%s}}`, smallFiles()["vocab.json"], merges)
}

func writeFiles(tb testing.TB, files map[string]string) string {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "токены")
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

func TestOpenTakesEveryFormOfTheFiles(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"vocab.json and merges.txt":             smallFiles(),
		"tokenizer.json with merges as lines":   {"tokenizer.json": wholeFile(`["t h","th e"]`)},
		"tokenizer.json with merges as pairs":   {"tokenizer.json": wholeFile(`[["t","h"],["th","e"]]`)},
		"tokenizer.json beside its config":      {"tokenizer.json": wholeFile(`["t h","th e"]`), "tokenizer_config.json": smallFiles()["tokenizer_config.json"]},
		"tokenizer.json before a broken vocab":  {"tokenizer.json": wholeFile(`["t h","th e"]`), "vocab.json": "{"},
		"a config whose roles are objects":      with(smallFiles(), "tokenizer_config.json", strings.Replace(smallFiles()["tokenizer_config.json"], `"pad_token":"<|endoftext|>"`, `"pad_token":{"content":"<|endoftext|>","__type":"AddedToken"},"unk_token":null`, 1)),
		"merges without a version line or end":  with(smallFiles(), "merges.txt", "t h\nth e"),
		"a config that does not name a padding": with(smallFiles(), "tokenizer_config.json", strings.Replace(smallFiles()["tokenizer_config.json"], `,"pad_token":"<|endoftext|>"`, ``, 1)),
	} {
		t.Run(name, func(t *testing.T) {
			q, err := OpenQwen(writeFiles(t, files))
			if err != nil {
				t.Fatal(err)
			}
			if got := q.Encode("the<|im_end|>t"); !slices.Equal(got, []int32{257, 301, q.bytes[0]['t']}) || q.Pad() != 300 || q.Size() != 302 {
				t.Errorf("ids %v, pad %d, size %d", got, q.Pad(), q.Size())
			}
		})
	}
}

func with(files map[string]string, name, text string) map[string]string {
	files[name] = text
	return files
}

func without(files map[string]string, name string) map[string]string {
	delete(files, name)
	return files
}

func TestOpenRefusesHostileFilesInOneLine(t *testing.T) {
	vocab := smallFiles()["vocab.json"]
	config := func(text string) map[string]string { return with(smallFiles(), "tokenizer_config.json", text) }
	longList := `{"added_tokens_decoder":{`
	for i := range maxAdded + 1 {
		longList += fmt.Sprintf(`"%d":{"content":"<%d>"},`, 1000+i, i)
	}
	longList = strings.TrimSuffix(longList, ",") + "}}"
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"an empty folder":                     {nil, "neither tokenizer.json nor vocab.json"},
		"no merges":                           {without(smallFiles(), "merges.txt"), "merges.txt"},
		"no added tokens":                     {without(smallFiles(), "tokenizer_config.json"), "no id"},
		"a vocabulary that is no JSON":        {with(smallFiles(), "vocab.json", "hello"), "vocab.json"},
		"an empty vocabulary file":            {with(smallFiles(), "vocab.json", ""), "vocab.json"},
		"a vocabulary that is a list":         {with(smallFiles(), "vocab.json", "[1]"), "not a JSON object"},
		"a truncated vocabulary":              {with(smallFiles(), "vocab.json", vocab[:len(vocab)/2]), "invalid JSON"},
		"a vocabulary without bytes":          {with(smallFiles(), "vocab.json", `{"t":0,"h":1,"e":2,"th":3,"the":4}`), "no symbol"},
		"a repeated symbol":                   {with(smallFiles(), "vocab.json", `{"th":299,`+vocab[1:]), "appears twice"},
		"a repeated id":                       {with(smallFiles(), "vocab.json", `{"thx":5,`+vocab[1:]), "same id 5"},
		"a negative id":                       {with(smallFiles(), "vocab.json", `{"thx":-5,`+vocab[1:]), "no valid id"},
		"an id above 32 bits":                 {with(smallFiles(), "vocab.json", `{"thx":5000000000,`+vocab[1:]), "no valid id"},
		"an id that is an object":             {with(smallFiles(), "vocab.json", `{"thx":{"a":1},`+vocab[1:]), "no valid id"},
		"a merge of one symbol":               {with(smallFiles(), "merges.txt", "t h\nth\n"), "line 2"},
		"a merge of three symbols":            {with(smallFiles(), "merges.txt", "t h e\n"), "line 1"},
		"a merge of unknown symbols":          {with(smallFiles(), "merges.txt", "t x\n"), `no symbol "tx"`},
		"a repeated merge":                    {with(smallFiles(), "merges.txt", "t h\nt h\n"), "repeats"},
		"a config that is no JSON":            {config("{"), "tokenizer_config.json"},
		"an added token without content":      {config(`{"added_tokens_decoder":{"300":{}}}`), "empty"},
		"an added token with a bad id":        {config(`{"added_tokens_decoder":{"x":{"content":"a"}}}`), "not an id"},
		"an added token on a symbol's id":     {config(`{"added_tokens_decoder":{"5":{"content":"<|endoftext|>"}}}`), "belongs to a symbol"},
		"an added token with another id":      {config(`{"added_tokens_decoder":{"300":{"content":"the"}}}`), "vocabulary says 257"},
		"two added tokens of one content":     {config(`{"added_tokens_decoder":{"300":{"content":"<a>"},"301":{"content":"<a>"}}}`), "conflict"},
		"an added token that strips":          {config(`{"added_tokens_decoder":{"300":{"content":"<a>","lstrip":true}}}`), "lstrip"},
		"too many added tokens":               {config(longList), "more than"},
		"a padding token that is not there":   {config(`{"pad_token":"<pad>"}`), "<pad>"},
		"a role that is a number":             {config(`{"pad_token":5}`), "pad_token"},
		"tokenizer.json that is no JSON":      {map[string]string{"tokenizer.json": "{"}, "tokenizer.json"},
		"tokenizer.json without a model":      {map[string]string{"tokenizer.json": "{}"}, "vocabulary"},
		"tokenizer.json of another algorithm": {map[string]string{"tokenizer.json": `{"model":{"type":"Unigram"}}`}, "Unigram"},
		"tokenizer.json with odd merges":      {map[string]string{"tokenizer.json": wholeFile(`[["t"]]`)}, "merge 0"},
		"tokenizer.json with merges as text":  {map[string]string{"tokenizer.json": wholeFile(`"t h"`)}, "merges"},
		"tokenizer.json of CLIP":              {map[string]string{"tokenizer.json": strings.Replace(wholeFile(`[]`), `"BPE",`, `"BPE","end_of_word_suffix":"</w>",`, 1)}, "end_of_word_suffix"},
		"an added token without an id":        {map[string]string{"tokenizer.json": strings.Replace(wholeFile(`[]`), `"id":300,`, ``, 1)}, "no id"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := writeFiles(t, c.files)
			q, err := OpenQwen(dir)
			if err == nil {
				t.Fatalf("accepted: %d ids", q.Size())
			}
			if msg := err.Error(); !strings.Contains(msg, c.want) || !strings.Contains(msg, dir) || strings.Contains(msg, "\n") {
				t.Errorf("error %q should be one line that names the folder and says %q", msg, c.want)
			}
		})
	}
}

func TestOpenTellsTheFamiliesApart(t *testing.T) {
	if _, err := OpenCLIP(writeFiles(t, smallFiles())); err == nil || !strings.Contains(err.Error(), "</w>") {
		t.Errorf("Qwen's files passed for CLIP's: %v", err)
	}
	if _, err := OpenQwen(filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("an absent folder was opened")
	}
}

func TestOpenRefusesFilesTooLargeToBeVocabularies(t *testing.T) {
	dir := writeFiles(t, smallFiles())
	if err := os.Truncate(filepath.Join(dir, "vocab.json"), maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenQwen(dir); err == nil || !strings.Contains(err.Error(), "64 MiB") {
		t.Errorf("error %v", err)
	}
}

// FuzzFiles feeds the parsers of all four files; what they accept must encode any text.
func FuzzFiles(f *testing.F) {
	small := smallFiles()
	f.Add(small["vocab.json"], small["merges.txt"], small["tokenizer_config.json"], "")
	f.Add("", "", small["tokenizer_config.json"], wholeFile(`[["t","h"],["th","e"]]`))
	f.Add(`{"a":1}`, "a b", `{"pad_token":{"content":"x"}}`, `{"model":{}}`)
	f.Fuzz(func(t *testing.T, vocab, merges, config, whole string) {
		files := map[string]string{"vocab.json": vocab, "merges.txt": merges, "tokenizer_config.json": config, "tokenizer.json": whole}
		read := func(path string) ([]byte, error) {
			if text := files[path]; text != "" {
				return []byte(text), nil
			}
			return nil, os.ErrNotExist
		}
		if q, err := open("", qwen, read); err == nil {
			_ = q.Decode(q.Encode("the other <|im_end|> 熊 \n"), true)
			if _, err := q.EncodePrompt(Video(), "x", 8); err != nil {
				t.Fatal(err)
			}
		} else if strings.Contains(err.Error(), "\n") {
			t.Fatalf("error of several lines: %q", err)
		}
		if c, err := open("", clip, read); err == nil {
			if _, err := c.EncodeCLIP("the other", 8); err != nil {
				t.Fatal(err)
			}
		}
	})
}
