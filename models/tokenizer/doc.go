// Package tokenizer turns prompts into token ids for the two text encoders, and ids back into text.
//
// Both are byte-level BPE. Qwen's (transformers, models/qwen2/tokenization_qwen2.py) keeps every byte of the
// NFC-normalised text; CLIP's (transformers, models/clip/tokenization_clip.py) lowercases, drops white space and
// marks the end of a word. Their regular expressions are written out as splitters by hand, because Go's engine has no
// look-ahead. The package also holds the templates into which upstream puts a prompt before Qwen reads it.
//
// Files: a folder with tokenizer.json, or with vocab.json and merges.txt. Ids of special tokens are never assumed:
// they come from "added_tokens" of tokenizer.json and from "added_tokens_decoder" and the *_token keys of
// tokenizer_config.json, so that small synthetic vocabularies work like the published ones. Which is which shows in
// Published.
//
// A Tokenizer never changes after opening and may be used by several goroutines.
//
// Limits: invalid UTF-8 in a text is replaced by U+FFFD first, as a text of the reference cannot hold it; more than
// 30 combining marks on one letter are separated by U+034F (golang.org/x/text/unicode/norm does that in NFC), which
// the reference does not do.
package tokenizer
