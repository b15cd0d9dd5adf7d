package lora

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

func TestKeysOfAllProgramsAreUnderstood(t *testing.T) {
	flat := "lora_unet_" + strings.ReplaceAll(query, ".", "_")
	for name, keys := range map[string][2]string{
		"bare":             {query + ".lora_A.weight", query + ".lora_B.weight"},
		"peft":             {"base_model.model." + query + ".lora_A.weight", "base_model.model." + query + ".lora_B.weight"},
		"peft, named":      {"base_model.model." + query + ".lora_A.default.weight", "base_model.model." + query + ".lora_B.default.weight"},
		"diffusers":        {"transformer." + query + ".lora_A.weight", "transformer." + query + ".lora_B.weight"},
		"comfy":            {"diffusion_model." + query + ".lora_down.weight", "diffusion_model." + query + ".lora_up.weight"},
		"musubi":           {flat + ".lora_down.weight", flat + ".lora_up.weight"},
		"down and up":      {query + ".lora_down.weight", query + ".lora_up.weight"},
		"base and default": {"base_model.model.transformer." + query + ".lora_A.default.weight", query + ".lora_B.default.weight"},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, save(t, nil, pair(source(), keys[0], keys[1], weights.BF16, 3, 8, 8)...))
			c, ok := a.changes[query+".weight"]
			if len(a.changes) != 1 || !ok || c.rank() != 3 || c.scale != 1 {
				t.Errorf("changes %+v", a.changes)
			}
		})
	}
}

// TestScaleComesFromWhoeverKnowsIt has a query of rank 4 in every case, and says what scale it must have.
func TestScaleComesFromWhoeverKnowsIt(t *testing.T) {
	for name, c := range map[string]struct {
		metadata map[string]string
		config   string // beside the file
		alpha    []float32
		want     float64
	}{
		"nobody":                {want: 1},
		"alpha tensor":          {alpha: []float32{2}, want: 0.5},
		"alpha tensor of 0":     {alpha: []float32{0}, want: 1},
		"alpha before config":   {alpha: []float32{8}, config: `{"r":4,"lora_alpha":1}`, want: 2},
		"config":                {config: `{"peft_type":"LORA","r":4,"lora_alpha":32,"target_modules":["to_query"],"bias":"none"}`, want: 8},
		"rsLoRA":                {config: `{"r":4,"lora_alpha":32,"use_rslora":true}`, want: 16},
		"alpha pattern":         {config: `{"r":4,"lora_alpha":32,"alpha_pattern":{"to_key":1,"self_attention.to_query":2,".*query":3}}`, want: 0.5},
		"rank pattern":          {config: `{"r":64,"lora_alpha":32,"rank_pattern":{".*\\.0\\.self_attention\\..*":4}}`, want: 8},
		"pattern of no use":     {config: `{"r":4,"lora_alpha":2,"rank_pattern":{},"alpha_pattern":{"query":100}}`, want: 0.5},
		"no alpha":              {config: `{"r":4}`, want: 1},
		"diffusers":             {metadata: map[string]string{"lora_adapter_metadata": `{"transformer.r":4,"transformer.lora_alpha":2,"text_encoder.lora_alpha":77}`}, want: 0.5},
		"metadata, not config":  {metadata: map[string]string{"lora_alpha": "6"}, config: `{"r":4,"lora_alpha":2}`, want: 1.5},
		"pattern of everything": {config: `{"r":4,"lora_alpha":2,"alpha_pattern":{"^` + query + `$":12}}`, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			tensors := pair(source(), query+".lora_A.weight", query+".lora_B.weight", weights.F32, 4, 8, 8)
			if c.alpha != nil {
				tensors = append(tensors, tensor(query+".alpha", weights.F32, c.alpha))
			}
			path := save(t, c.metadata, tensors...)
			if c.config != "" {
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), "config_lora.json"), []byte(c.config), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := open(t, path).changes[query+".weight"].scale; math.Abs(got-c.want) > 1e-12 {
				t.Errorf("scale %g, want %g", got, c.want)
			}
		})
	}
}

func TestWhatIsNoLoRAOfTheModelIsRefused(t *testing.T) {
	a, b := query+".lora_A.weight", query+".lora_B.weight"
	good := func() []weights.Tensor { return pair(source(), a, b, weights.F32, 2, 8, 8) }
	nan := float32(math.NaN())
	many := good()
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
		many = append(many, tensor("stranger."+n, weights.F32, []float32{1}, 1))
	}
	for name, c := range map[string]struct {
		tensors  []weights.Tensor
		metadata map[string]string
		config   string
		want     []string // in the error
	}{
		"nothing":             {want: []string{"no tensor is part of a LoRA"}},
		"another model":       {tensors: pair(source(), "blocks.0.attn.lora_A.weight", "blocks.0.attn.lora_B.weight", weights.F32, 2, 8, 8), want: []string{"blocks.0.attn.lora_A.weight", "blocks.0.attn.lora_B.weight", "match nothing"}},
		"one stranger":        {tensors: append(good(), tensor(query+".lora_shadow", weights.F32, make([]float32, 8), 8)), want: []string{"lora_shadow", "matches nothing"}},
		"many strangers":      {tensors: many, want: []string{"stranger.a", "stranger.h", "and 2 more"}},
		"a norm":              {tensors: pair(source(), "visual_transformer_blocks.0.self_attention.query_norm.lora_A.weight", b, weights.F32, 2, 8, 8), want: []string{"query_norm", "matches nothing"}},
		"a bias":              {tensors: append(good(), tensor(query+".bias", weights.F32, make([]float32, 8), 8)), want: []string{query + ".bias"}},
		"a without b":         {tensors: good()[:1], want: []string{a, "no lora_B"}},
		"b without a":         {tensors: good()[1:], want: []string{b, "no lora_A"}},
		"alpha alone":         {tensors: append(good(), tensor(feed+".alpha", weights.F32, []float32{1})), want: []string{feed + ".alpha", "no lora_A and lora_B"}},
		"both spellings":      {tensors: append(good(), tensor("transformer."+a, weights.F32, make([]float32, 16), 2, 8)), want: []string{"are both for", a}},
		"a too narrow":        {tensors: pair(source(), a, b, weights.F32, 2, 8, 7), want: []string{a, "[2 7]", "[rank, 8]"}},
		"b too high":          {tensors: pair(source(), a, b, weights.F32, 2, 9, 8), want: []string{b, "[9 2]", "[8, 2]"}},
		"ranks differ":        {tensors: []weights.Tensor{tensor(a, weights.F32, make([]float32, 16), 2, 8), tensor(b, weights.F32, make([]float32, 24), 8, 3)}, want: []string{b, "[8 3]", "[8, 2]"}},
		"rank 0":              {tensors: []weights.Tensor{tensor(a, weights.F32, nil, 0, 8), tensor(b, weights.F32, nil, 8, 0)}, want: []string{a, "[0 8]"}},
		"a convolution":       {tensors: []weights.Tensor{tensor(a, weights.F32, make([]float32, 16), 2, 8, 1, 1), good()[1]}, want: []string{a, "[2 8 1 1]"}},
		"nan":                 {tensors: []weights.Tensor{tensor(a, weights.BF16, append(make([]float32, 15), nan), 2, 8), good()[1]}, want: []string{a, "NaN"}},
		"infinite":            {tensors: []weights.Tensor{good()[0], tensor(b, weights.F16, append(make([]float32, 15), float32(math.Inf(1))), 8, 2)}, want: []string{b, "infinite"}},
		"integers":            {tensors: []weights.Tensor{{Name: a, DType: weights.I8, Shape: []int{2, 8}, Data: make([]byte, 16)}, good()[1]}, want: []string{a, "I8"}},
		"two alphas":          {tensors: append(good(), tensor(query+".alpha", weights.F32, []float32{1, 2}, 2)), want: []string{query + ".alpha", "single number"}},
		"nan alpha":           {tensors: append(good(), tensor(query+".alpha", weights.F32, []float32{nan})), want: []string{query + ".alpha", "NaN"}},
		"a long trigger":      {tensors: good(), metadata: map[string]string{"trigger": strings.Repeat("x", 2001)}, want: []string{"trigger of 2001 bytes"}},
		"junk for alpha":      {tensors: good(), metadata: map[string]string{"lora_alpha": "four\nlines"}, want: []string{"lora_alpha", "no number"}},
		"infinite alpha":      {tensors: good(), metadata: map[string]string{"lora_alpha": "inf"}, want: []string{"no number"}},
		"junk metadata":       {tensors: good(), metadata: map[string]string{"lora_adapter_metadata": "[]"}, want: []string{"lora_adapter_metadata", "JSON"}},
		"junk config":         {tensors: good(), config: "{", want: []string{"config_lora.json", "JSON"}},
		"a number as pattern": {tensors: good(), config: `{"rank_pattern":7,"alpha_pattern":[],"r":"x","lora_alpha":{}}`, want: []string{"config_lora.json", "r:"}},
		"broken pattern":      {tensors: good(), config: `{"rank_pattern":{"(":2}}`, want: []string{"rank_pattern", "regular expression"}},
		"greedy pattern":      {tensors: good(), config: `{"alpha_pattern":{"((a{1000}){1000}){1000}":2}}`, want: []string{"alpha_pattern", "{"}},
		"pattern of text":     {tensors: good(), config: `{"alpha_pattern":{"a":"b"}}`, want: []string{"alpha_pattern"}},
		"rank of another":     {tensors: good(), config: `{"r":16,"lora_alpha":16}`, want: []string{"config_lora.json says rank 16", "2 rows"}},
		"dora":                {tensors: good(), config: `{"use_dora":true}`, want: []string{"DoRA"}},
		"another kind":        {tensors: good(), config: `{"peft_type":"LOHA"}`, want: []string{"only plain LoRA", "LOHA"}},
		"weights of its own":  {tensors: good(), config: `{"r":2,"lora_alpha":2,"init_lora_weights":"pissa_niter_16"}`, want: []string{"pissa_niter_16", "converted"}},
		"an odd alpha":        {tensors: append(good(), weights.Tensor{Name: query + ".alpha", DType: weights.U16, Data: make([]byte, 2)}), want: []string{query + ".alpha", "U16"}},
		"infinite, as F64":    {tensors: append(good(), wide(query+".alpha", weights.F64, math.Float64bits(math.Inf(-1)))), want: []string{query + ".alpha", "infinite"}},
		"no truth value":      {tensors: append(good(), tensor("use_rslora_flag", weights.F32, []float32{1})), want: []string{"use_rslora_flag", "truth value"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := save(t, c.metadata, c.tensors...)
			if c.config != "" {
				if err := os.WriteFile(filepath.Join(filepath.Dir(path), "config_lora.json"), []byte(c.config), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			a, err := Open(path, smallSpec())
			if err == nil {
				t.Fatal(errors.Join(errors.New("opened"), a.Close()))
			}
			for _, want := range append(c.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	path := save(t, nil, pair(source(), query+".lora_A.weight", query+".lora_B.weight", weights.F32, 2, 8, 8)...)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, bytes := range map[string][]byte{
		"empty": nil, "cut": data[:len(data)-1], "longer": append(data[:len(data):len(data)], 0), "text": []byte("not a model"), "huge header": append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, data[8:]...),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, bytes, 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(path, smallSpec()); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), smallSpec()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if _, err := Open(t.TempDir(), smallSpec()); err == nil {
		t.Error("a folder was opened")
	}
}

// FuzzAdapter looks for panics, errors of several lines, and adapters whose factors do not fit their matrices.
func FuzzAdapter(f *testing.F) {
	good := append(pair(source(), query+".lora_A.weight", query+".lora_B.weight", weights.F32, 2, 8, 8), tensor(query+".alpha", weights.F32, []float32{4}))
	data, err := os.ReadFile(save(f, map[string]string{"trigger": "word, "}, good...))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data, "")
	f.Add(data, `{"r":2,"lora_alpha":4,"rank_pattern":{"to_query":2},"alpha_pattern":{".*":3},"use_rslora":true}`)
	flags := append(good[:2:2], wide(query+".alpha", weights.I64, 4), flag(rsLoRAFlag, 1), flag(doRAFlag, 0))
	if data, err = os.ReadFile(save(f, nil, flags...)); err != nil {
		f.Fatal(err)
	}
	f.Add(data, "")
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"), `{"transformer.r":2}`)
	spec := smallSpec()
	known := newModules(spec)
	f.Fuzz(func(t *testing.T, data []byte, config string) {
		file, err := weights.OpenBytes("fuzz", data)
		if err != nil {
			return
		}
		var beside *scaling
		if config != "" {
			s, err := parseScaling([]byte(config), "config")
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\r") {
					t.Errorf("more than one line: %q", err)
				}
				return
			}
			beside = &s
		}
		a, err := newAdapter(file, beside, spec)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("more than one line: %q", err)
			}
			return
		}
		for name, c := range a.changes {
			shape := known.shapes[strings.TrimSuffix(name, ".weight")]
			if c.up.Shape[0] != shape[0] || c.down.Shape[1] != shape[1] || c.up.Shape[1] != c.rank() || c.rank() < 1 {
				t.Errorf("%s %v is changed by %v·%v", name, shape, c.up.Shape, c.down.Shape)
			}
			if _, err := factor([]term{{a, c, 1}}); err != nil {
				t.Error(err)
			}
		}
	})
}
