package weights

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/bytelevel"
)

// synthMerges are the merges of the synthetic vocabularies: common English pairs, enough that merging by rank is
// exercised, few enough for a small id space.
var synthMerges = strings.Fields(`t,h th,e h,e a,n i,n e,r o,n r,e an,d in,g o,r e,n a,t o,u l,e s,t i,o io,n a,r e,s i,t`)

// addedToken is one entry of added_tokens_decoder in tokenizer_config.json.
type addedToken struct {
	Content    string `json:"content"`
	LStrip     bool   `json:"lstrip"`
	Normalized bool   `json:"normalized"`
	RStrip     bool   `json:"rstrip"`
	SingleWord bool   `json:"single_word"`
	Special    bool   `json:"special"`
}

// qwenAdded are Qwen's added tokens in the published order of their ids; those from <tool_call> on are kept when
// decoding without special tokens (Qwen/Qwen2.5-VL-7B-Instruct, tokenizer_config.json).
var qwenAdded = strings.Fields(`<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
	<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <tool_call> </tool_call>
	<|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>`)

// qwenSpecials is how many of qwenAdded are special for decoding.
const qwenSpecials = 14

// vocabulary grows a byte-level vocabulary with its merges.
type vocabulary struct {
	ids    map[string]int
	merges []string
	limit  int // ids stay below this
}

func (v *vocabulary) add(symbol string) bool {
	if _, ok := v.ids[symbol]; ok || len(v.ids) >= v.limit {
		return false
	}
	v.ids[symbol] = len(v.ids)
	return true
}

// merge adds a pair if both halves are known, the result is new and there is room.
func (v *vocabulary) merge(left, right string) {
	_, l := v.ids[left]
	_, r := v.ids[right]
	if l && r && v.add(left+right) {
		v.merges = append(v.merges, left+" "+right)
	}
}

func (v *vocabulary) mergesFile() []byte {
	return []byte("#version: 0.2\n" + strings.Join(v.merges, "\n") + "\n")
}

// synthTokenizers makes both tokenizers' files.
func synthTokenizers(o SynthOptions) ([]jsonFile, error) {
	qwen, err := synthQwenTokenizer(o.Qwen)
	if err != nil {
		return nil, fmt.Errorf("qwen tokenizer: %w", err)
	}
	clip, err := synthCLIPTokenizer(o.CLIP)
	if err != nil {
		return nil, fmt.Errorf("clip tokenizer: %w", err)
	}
	return append(qwen, clip...), nil
}

// qwenTokenIDs places the added tokens: at the configuration's ids where it names them, the others on free ids in
// the published order. Ids that follow each other as published stay so.
func qwenTokenIDs(c QwenConfig) (map[int]string, error) {
	named := map[string]int{
		"<|endoftext|>": c.BOSTokenID, "<|im_end|>": c.EOSTokenID, "<|vision_start|>": c.VisionStartTokenID, "<|vision_end|>": c.VisionEndTokenID,
		"<|image_pad|>": c.ImageTokenID, "<|video_pad|>": c.VideoTokenID,
	}
	at := map[int]string{}
	for _, name := range qwenAdded {
		id, ok := named[name]
		if !ok {
			continue
		}
		if err := inRange("the id of "+name, id, 256, c.Text.VocabSize-1); err != nil {
			return nil, fmt.Errorf("%w, because ids below 256 are bytes", err)
		}
		if other, taken := at[id]; taken {
			return nil, fmt.Errorf("%s and %s have the same id %d", other, name, id)
		}
		at[id] = name
	}
	free := c.BOSTokenID
	for _, name := range qwenAdded {
		if _, ok := named[name]; ok {
			free = named[name]
			continue
		}
		for tried := 0; at[free] != ""; tried++ {
			if free++; free >= c.Text.VocabSize {
				free = 256
			}
			if tried > c.Text.VocabSize {
				return nil, fmt.Errorf("vocab_size %d has no room for %d special tokens after 256 bytes", c.Text.VocabSize, len(qwenAdded))
			}
		}
		at[free] = name
	}
	return at, nil
}

func synthQwenTokenizer(c QwenConfig) ([]jsonFile, error) {
	if c.Text.VocabSize < 256+len(qwenAdded) {
		return nil, fmt.Errorf("vocab_size %d has no room for 256 bytes and %d special tokens", c.Text.VocabSize, len(qwenAdded))
	}
	at, err := qwenTokenIDs(c)
	if err != nil {
		return nil, err
	}
	first := c.Text.VocabSize
	for id := range at {
		first = min(first, id)
	}
	v := vocabulary{ids: map[string]int{}, limit: first}
	alphabet := bytelevel.Alphabet()
	for _, b := range bytelevel.Order() {
		v.add(string(alphabet[b]))
	}
	space := string(alphabet[' '])
	v.merge(space, "t")
	v.merge(space, "a")
	for _, pair := range synthMerges {
		left, right, _ := strings.Cut(pair, ",")
		v.merge(left, right)
	}
	v.merge(space+"t", "he")
	v.merge(space, "the")
	decoder := map[string]addedToken{}
	for id, name := range at {
		decoder[strconv.Itoa(id)] = addedToken{Content: name, Special: indexOf(qwenAdded, name) < qwenSpecials}
	}
	config := map[string]any{
		"add_prefix_space": false, "added_tokens_decoder": decoder, "additional_special_tokens": qwenAdded[1:qwenSpecials],
		"bos_token": nil, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": nil,
		"errors": "replace", "model_max_length": 131072, "tokenizer_class": "Qwen2Tokenizer",
	}
	return []jsonFile{
		{"tokenizer/vocab.json", v.ids}, {"tokenizer/merges.txt", v.mergesFile()}, {"tokenizer/tokenizer_config.json", config},
	}, nil
}

func indexOf(list []string, want string) int {
	for i, s := range list {
		if s == want {
			return i
		}
	}
	return -1
}

// synthCLIPTokenizer puts the start token at the last id but one and the end token at the last, as published: the
// pooled row is found by the largest id.
func synthCLIPTokenizer(c CLIPConfig) ([]jsonFile, error) {
	const end = "</w>"
	if c.VocabSize < 2*256+2 {
		return nil, fmt.Errorf("vocab_size %d has no room for 256 bytes, 256 bytes that end a word and two special tokens", c.VocabSize)
	}
	v := vocabulary{ids: map[string]int{}, limit: c.VocabSize - 2}
	alphabet := bytelevel.Alphabet()
	for _, suffix := range []string{"", end} {
		for _, b := range bytelevel.Order() {
			v.add(string(alphabet[b]) + suffix)
		}
	}
	for _, pair := range synthMerges {
		left, right, _ := strings.Cut(pair, ",")
		v.merge(left, right)
		v.merge(left, right+end)
	}
	ids := map[string]int{"<|startoftext|>": c.VocabSize - 2, "<|endoftext|>": c.VocabSize - 1}
	for symbol, id := range v.ids {
		ids[symbol] = id
	}
	token := func(content string) addedToken { return addedToken{Content: content, Normalized: true} }
	special := map[string]any{
		"bos_token": token("<|startoftext|>"), "eos_token": token("<|endoftext|>"), "unk_token": token("<|endoftext|>"), "pad_token": "<|endoftext|>",
	}
	config := map[string]any{
		"add_prefix_space": false, "do_lower_case": true, "errors": "replace", "model_max_length": c.MaxPositionEmbeddings, "tokenizer_class": "CLIPTokenizer",
	}
	for _, key := range sortedKeys(special) {
		config[key] = special[key]
	}
	return []jsonFile{
		{"tokenizer_2/vocab.json", ids}, {"tokenizer_2/merges.txt", v.mergesFile()},
		{"tokenizer_2/tokenizer_config.json", config}, {"tokenizer_2/special_tokens_map.json", special},
	}, nil
}
