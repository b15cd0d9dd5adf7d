package tokenizer

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
)

// roleKeys are the keys of tokenizer_config.json that give a token a role, in the order in which the library
// registers them.
var roleKeys = [...]string{"bos_token", "eos_token", "unk_token", "pad_token"}

// parseConfig reads tokenizer_config.json: added_tokens_decoder (ids as keys) and the roles, which are plain strings
// or objects like added tokens.
func (s *source) parseConfig(data []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return fmt.Errorf("invalid JSON: %w", err)
	}
	var decoder map[string]addedJSON
	if raw, ok := keys["added_tokens_decoder"]; ok {
		if err := json.Unmarshal(raw, &decoder); err != nil {
			return fmt.Errorf("added_tokens_decoder: %w", err)
		}
	}
	ids := make([]string, 0, len(decoder))
	for id := range decoder {
		ids = append(ids, id)
	}
	sort.Strings(ids)
	for _, text := range ids {
		id, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("added_tokens_decoder: %q is not an id", text)
		}
		if err := s.add(decoder[text], id); err != nil {
			return fmt.Errorf("added_tokens_decoder: %w", err)
		}
	}
	return s.parseRoles(keys)
}

// parseRoles reads the roles. A role's token that is in the vocabulary but was not declared as an added token becomes
// one; a plain string is then looked for in the raw text. When several roles name one token the last decides, as in
// the library.
func (s *source) parseRoles(keys map[string]json.RawMessage) error {
	declared := len(s.added)
	for _, role := range roleKeys {
		raw, ok := keys[role]
		if !ok || string(raw) == "null" {
			continue
		}
		token := addedJSON{Special: true}
		if json.Unmarshal(raw, &token.Content) != nil {
			if err := json.Unmarshal(raw, &token); err != nil {
				return fmt.Errorf("%s: neither a string nor a token", role)
			}
			token.Special = true
		}
		if token.Content == "" {
			continue
		}
		s.roles[role] = token.Content
		id, ok := s.vocab[token.Content]
		if !ok {
			continue
		}
		if i := s.indexAdded(token.Content); i >= declared {
			s.added[i].normalised = token.Normalized
		} else if i < 0 {
			if err := s.add(token, int64(id)); err != nil {
				return fmt.Errorf("%s: %w", role, err)
			}
		}
	}
	return nil
}

// indexAdded is the position of an added token, or -1.
func (s *source) indexAdded(content string) int {
	for i, a := range s.added {
		if a.content == content {
			return i
		}
	}
	return -1
}
