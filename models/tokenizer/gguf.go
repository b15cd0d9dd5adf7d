package tokenizer

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// qwenAdded are the tokens that Qwen2.5-VL adds behind its vocabulary, in the order of their ids, as published; the first
// fourteen are special.
func qwenAdded() []string {
	return strings.Fields(`<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>
		<|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>
		<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>`)
}

const qwenSpecial = 14

// fromGGUF reads the vocabulary and the merges that kandinsky.cpp puts into a text encoder's file. What else a folder would say
// is as published.
func fromGGUF(k kind) func(path string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		file, name := filepath.Split(path)
		vocab, merges, err := weights.EmbeddedTokenizer(filepath.Clean(file))
		if err != nil {
			return nil, err
		}
		switch name {
		case "vocab.json":
			return vocab, nil
		case "merges.txt":
			return merges, nil
		case "tokenizer_config.json":
			return publishedConfig(k, vocab)
		}
		return nil, fmt.Errorf("%s: %w", path, os.ErrNotExist)
	}
}

// publishedConfig is a tokenizer_config.json with what matters of the published one.
func publishedConfig(k kind, vocab []byte) ([]byte, error) {
	if k == clip {
		token := func(content string) map[string]any { return map[string]any{"content": content, "normalized": true} }
		return json.Marshal(map[string]any{"bos_token": token(clipStart), "eos_token": token(clipEnd), "unk_token": token(clipEnd), "pad_token": clipEnd})
	}
	var symbols map[string]json.RawMessage
	if err := json.Unmarshal(vocab, &symbols); err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	decoder := map[string]any{}
	for n, content := range qwenAdded() {
		decoder[strconv.Itoa(len(symbols)+n)] = map[string]any{"content": content, "special": n < qwenSpecial}
	}
	return json.Marshal(map[string]any{"added_tokens_decoder": decoder, "pad_token": qwenPad})
}
