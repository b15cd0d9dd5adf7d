package verify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/tokenizer"
)

// tokenizers compares token ids of prompts, which must be equal. folder holds the published vocabularies.
func tokenizers(name string, data []byte, folder string) ([]Result, error) {
	var file struct {
		Prefixes map[string][]int `json:"prefix_token_counts"`
		Cases    []struct {
			Text    string
			Qwen    []int32
			SHA     string `json:"qwen_video_prompt_ids_sha"`
			Valid   int    `json:"qwen_video_prompt_valid"`
			Decoded string `json:"qwen_decode"`
			CLIP    []int32
		}
	}
	if err := json.Unmarshal(data, &file); err != nil || len(file.Cases) == 0 {
		return nil, fmt.Errorf("%s: this is no golden case: %v", name, err)
	}
	qwen, err := tokenizer.OpenQwen(filepath.Join(folder, "qwen"))
	if err != nil {
		return nil, fmt.Errorf("the tokenizer case needs the published vocabularies: %w", err)
	}
	clip, err := tokenizer.OpenCLIP(filepath.Join(folder, "clip"))
	if err != nil {
		return nil, fmt.Errorf("the tokenizer case needs the published vocabularies: %w", err)
	}
	differ := map[string]int{}
	count := func(output string, equal bool) {
		if differ[output] += 0; !equal {
			differ[output]++
		}
	}
	for _, g := range file.Cases {
		count("qwen ids", slices.Equal(qwen.Encode(g.Text), g.Qwen))
		count("qwen text", qwen.Decode(g.Qwen, false) == g.Decoded)
		prompt, err := qwen.EncodePrompt(tokenizer.Video(), g.Text, 256)
		if err != nil {
			return nil, err
		}
		count("video prompt", idsHash(prompt.IDs) == g.SHA && prompt.Valid() == g.Valid)
		caption, err := clip.EncodeCLIP(g.Text, len(g.CLIP))
		if err != nil {
			return nil, err
		}
		count("clip ids", slices.Equal(caption.IDs, g.CLIP))
	}
	for _, t := range tokenizer.Templates() {
		want, ok := file.Prefixes[t.Name]
		if ok {
			before, _, _ := strings.Cut(t.Text, "{}")
			count("template prefixes", len(want) == 1 && len(qwen.Encode(before)) == want[0])
		}
	}
	var results []Result
	for output, n := range differ {
		results = append(results, Result{Case: strings.TrimSuffix(name, ".json"), Component: "tokenizers", Output: output, Metric: "differing", Value: float64(n), Pass: n == 0})
	}
	slices.SortFunc(results, func(a, b Result) int { return strings.Compare(a.Output, b.Output) })
	return results, nil
}

// idsHash is the SHA-256 of ids as little-endian int32.
func idsHash(ids []int32) string {
	var raw []byte
	for _, id := range ids {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(id))
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}
