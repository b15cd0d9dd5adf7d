package lora

import (
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// role is what a tensor of an adapter's file is to its module.
type role int

const (
	down  role = iota // A, [rank, in]
	up                // B, [out, rank]
	alpha             // a single number
	roles
)

// factorName knows the names that training programs give: PEFT and diffusers write lora_A and lora_B, kohya's scripts and
// musubi-tuner lora_down and lora_up.
func factorName(part string) (role, bool) {
	switch part {
	case "lora_A", "lora_down":
		return down, true
	case "lora_B", "lora_up":
		return up, true
	}
	return 0, false
}

// prefixes stand before a module's name: PEFT's wrappers; the transformer's name in diffusers' and SimpleTuner's files, in
// ComfyUI's and in those of DiffSynth; what torch.compile puts before the names of a module.
var prefixes = []string{"base_model.model.", "transformer.", "model.diffusion_model.", "diffusion_model.", "pipe.dit.", "_orig_mod."}

// flatPrefixes begin names in which the dots of the module's name are underscores: those of kohya's scripts and
// musubi-tuner, of OneTrainer, and of LyCORIS.
var flatPrefixes = []string{"lora_unet_", "lora_transformer_", "lycoris_"}

// Tensors of a single truth value that forks of musubi-tuner put beside the modules.
const (
	rsLoRAFlag = "use_rslora_flag" // alphas are over √rank
	doRAFlag   = "use_dora_flag"
)

// foreign are parts of the names that tensors of other kinds of adapters have (PEFT, LyCORIS, musubi-tuner).
var foreign = []struct{ part, kind string }{
	{".lora_magnitude_vector", "DoRA"}, {".dora_scale", "DoRA"}, {".dora_layer.", "DoRA"},
	{".lokr_", "LoKr"}, {".hada_", "LoHa"}, {".oft_", "OFT"}, {".boft_", "BOFT"}, {".vera_lambda", "VeRA"}, {".ia3_", "IA³"},
	{".lora_mid.", "LoCon with a core tensor"}, {".lora_A.bias", "LoRA with biases"}, {".lora_B.bias", "LoRA with biases"}, {".lora_up.bias", "LoRA with biases"},
	{".modules_to_save.", "LoRA with whole modules"},
}

// foreignEndings are like foreign, at the end of a name.
var foreignEndings = []struct{ part, kind string }{
	{".diff", "difference of whole weights"}, {".diff_b", "difference of whole weights"}, {".reshape_weight", "LoRA of weights in another shape"},
}

// kindOf says what kind of adapter, other than a plain LoRA, has a tensor of such a name; "" where none is known.
func kindOf(key string) string {
	for _, f := range foreign {
		if strings.Contains(key, f.part) {
			return f.kind
		}
	}
	for _, f := range foreignEndings {
		if strings.HasSuffix(key, f.part) {
			return f.kind
		}
	}
	return ""
}

// modules knows the matrices of a network that an adapter may change.
type modules struct {
	shapes map[string][]int  // by module name, without ".weight": [out, in]
	flat   map[string]string // the module's name by the same with underscores
}

func newModules(spec weights.Spec) modules {
	m := modules{shapes: map[string][]int{}, flat: map[string]string{}}
	for _, e := range spec {
		name, ok := strings.CutSuffix(e.Name, ".weight")
		if !ok || len(e.Shape) != 2 {
			continue
		}
		m.shapes[name] = e.Shape
		m.flat[strings.ReplaceAll(name, ".", "_")] = name
	}
	return m
}

// find returns which module a key belongs to and what it is there; false when it is neither.
func (m modules) find(key string) (module string, r role, ok bool) {
	name, r, ok := splitRole(key)
	if !ok {
		return "", 0, false
	}
	if name, ok := m.unflatten(name); ok {
		return name, r, true
	}
	for {
		i := slices.IndexFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if i < 0 {
			break
		}
		name = name[len(prefixes[i]):]
	}
	_, ok = m.shapes[name]
	return name, r, ok
}

// splitRole parts MODULE.lora_A.weight, MODULE.lora_A.ADAPTER.weight, as PEFT names the tensors of an adapter that is not
// alone, or MODULE.alpha. The reference removes every ".default", which is the name that PEFT gives the first.
func splitRole(key string) (name string, r role, ok bool) {
	parts := strings.Split(strings.ReplaceAll(key, ".default", ""), ".")
	n := len(parts)
	if n > 1 && parts[n-1] == "alpha" {
		return strings.Join(parts[:n-1], "."), alpha, true
	}
	if n < 3 || parts[n-1] != "weight" {
		return "", 0, false
	}
	for _, at := range []int{n - 2, n - 3} {
		if r, ok := factorName(parts[at]); ok && at > 0 {
			return strings.Join(parts[:at], "."), r, true
		}
	}
	return "", 0, false
}

// unflatten finds the module of a name whose dots are underscores.
func (m modules) unflatten(name string) (module string, ok bool) {
	for _, p := range flatPrefixes {
		if flat, is := strings.CutPrefix(name, p); is {
			module, ok = m.flat[flat]
			return module, ok
		}
	}
	return "", false
}
