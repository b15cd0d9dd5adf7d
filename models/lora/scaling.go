package lora

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
)

// scaling says by how much the products B·A of an adapter are multiplied, as PEFT's LoraConfig does.
type scaling struct {
	from        string // who says so, for messages
	alpha, rank *float64
	root        bool // rsLoRA: alpha/√rank
	alphas      []pattern
	ranks       []pattern
}

// pattern overrides a number for the modules that it matches.
type pattern struct {
	expr  *regexp.Regexp
	value float64
}

// maxConfig bounds the size of a configuration in bytes, maxPatterns the number of its patterns, maxPattern the bytes of one.
const (
	maxConfig   = 1 << 20
	maxPattern  = 500
	maxPatterns = 4000
)

// configNames are the files that lie beside an adapter: as Kandinsky's own adapters are published, and as PEFT writes it.
var configNames = []string{"config_lora.json", "adapter_config.json"}

// configBeside reads the configuration that lies beside an adapter; nil when there is none.
func configBeside(path string) (*scaling, error) {
	for _, name := range configNames {
		name = filepath.Join(filepath.Dir(path), name)
		if info, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
		if err != nil {
			return nil, err
		}
		s, err := parseScaling(data, filepath.Base(name))
		return &s, err
	}
	return nil, nil
}

// scalingOf decides who says the scale: the file itself, a configuration beside it, or nobody, which means 1.
func scalingOf(metadata map[string]string, beside *scaling) (scaling, error) {
	if text, ok := metadata["lora_adapter_metadata"]; ok { // diffusers
		return parseScaling([]byte(text), "its lora_adapter_metadata")
	}
	if text, ok := metadata["lora_alpha"]; ok {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(value, 0) || math.IsNaN(value) {
			return scaling{}, fmt.Errorf("lora_alpha %.40q in its metadata is no number", text)
		}
		return scaling{from: "lora_alpha in its metadata", alpha: &value}, nil
	}
	if beside != nil {
		return *beside, nil
	}
	return scaling{from: "no configuration"}, nil
}

// parseScaling reads a LoraConfig. Keys may have the component's name before them, as diffusers writes them.
func parseScaling(data []byte, from string) (scaling, error) {
	s := scaling{from: from}
	fail := func(err error) (scaling, error) { return s, fmt.Errorf("%s: %w", from, err) }
	if len(data) > maxConfig {
		return fail(fmt.Errorf("larger than %d bytes", maxConfig))
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return fail(fmt.Errorf("no JSON object: %w", err))
	}
	get := func(key string, v any) error {
		raw, ok := all["transformer."+key]
		if !ok {
			raw, ok = all[key]
		}
		if !ok {
			return nil
		}
		if err := json.Unmarshal(raw, v); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	var kind string
	var dora bool
	var alphas, ranks json.RawMessage
	var start any
	err := oneline.Join(get("lora_alpha", &s.alpha), get("r", &s.rank), get("use_rslora", &s.root), get("use_dora", &dora), get("peft_type", &kind), get("init_lora_weights", &start),
		get("alpha_pattern", &alphas), get("rank_pattern", &ranks))
	if err != nil {
		return fail(err)
	}
	if dora {
		kind = "DoRA"
	}
	if kind != "" && kind != "LORA" {
		return fail(fmt.Errorf("only plain LoRA adapters can be applied, this is of the kind %.40q", kind))
	}
	if text, _ := start.(string); changesBase(text) {
		return fail(fmt.Errorf("init_lora_weights is %.40q: such an adapter goes with weights of its own, not with the model's: save it converted to a plain LoRA", text))
	}
	if s.alphas, err = parsePatterns(alphas); err != nil {
		return fail(fmt.Errorf("alpha_pattern: %w", err))
	}
	if s.ranks, err = parsePatterns(ranks); err != nil {
		return fail(fmt.Errorf("rank_pattern: %w", err))
	}
	return s, nil
}

// changesBase says whether an adapter that PEFT began in such a way was trained beside other weights than the model's
// (peft, tuners/lora/layer.py): unless it is converted when it is saved, it is of no use with the model's own.
func changesBase(start string) bool {
	start = strings.ToLower(start)
	for _, name := range []string{"pissa", "olora", "corda", "loftq", "lora_ga"} {
		if strings.HasPrefix(start, name) {
			return true
		}
	}
	return false
}

// parsePatterns reads an object of regular expressions and numbers in its order, of which the first that matches counts.
func parsePatterns(raw json.RawMessage) ([]pattern, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("not an object")
	}
	var out []pattern
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		p := pattern{}
		if err := dec.Decode(&p.value); err != nil {
			return nil, err
		}
		if p.expr, err = compile(key.(string)); err != nil {
			return nil, err
		}
		if out = append(out, p); len(out) > maxPatterns {
			return nil, fmt.Errorf("more than %d patterns", maxPatterns)
		}
	}
	return out, nil
}

// compile reads a pattern as PEFT does: it matches the whole name, or what follows a dot of it (peft, utils/other.py,
// get_pattern_key). Counted repetitions, with which few bytes could ask for much memory, are refused.
func compile(text string) (*regexp.Regexp, error) {
	if len(text) > maxPattern || strings.Contains(text, "{") {
		return nil, fmt.Errorf("pattern %.80q is longer than %d bytes or has a {", text, maxPattern)
	}
	expr, err := regexp.Compile(`^(?:.*\.)?(?:` + text + `)$`)
	if err != nil {
		return nil, fmt.Errorf("pattern %.80q is no regular expression", text)
	}
	return expr, nil
}

func match(list []pattern, module string) (float64, bool) {
	for _, p := range list {
		if p.expr.MatchString(module) {
			return p.value, true
		}
	}
	return 0, false
}

// of returns alpha/rank of a module, or alpha/√rank, and 1 where nobody says alpha.
func (s scaling) of(module string, rank int) (float64, error) {
	said := s.rank
	if v, ok := match(s.ranks, module); ok {
		said = &v
	}
	if said != nil && *said != float64(rank) {
		return 0, fmt.Errorf("%s says rank %g of %s, lora_A has %d rows: it belongs to another adapter", s.from, *said, module, rank)
	}
	alpha := s.alpha
	if v, ok := match(s.alphas, module); ok {
		alpha = &v
	}
	if alpha == nil {
		return 1, nil
	}
	if s.root {
		return *alpha / math.Sqrt(float64(rank)), nil
	}
	return *alpha / float64(rank), nil
}
