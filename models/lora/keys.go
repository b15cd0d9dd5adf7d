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

type ending struct {
	text string
	role role
}

// endings are the names that training programs give: PEFT and diffusers write lora_A and lora_B, kohya's scripts and
// musubi-tuner lora_down, lora_up and alpha.
var endings = []ending{
	{".lora_A.weight", down}, {".lora_down.weight", down},
	{".lora_B.weight", up}, {".lora_up.weight", up},
	{".alpha", alpha},
}

// prefixes stand before a module's name: PEFT's wrappers, diffusers' and ComfyUI's names for the transformer.
var prefixes = []string{"base_model.model.", "transformer.", "diffusion_model."}

// flatPrefix begins names in which the dots of the module's name are underscores.
const flatPrefix = "lora_unet_"

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
	key = strings.ReplaceAll(key, ".default", "") // the name that PEFT gives an adapter
	i := slices.IndexFunc(endings, func(e ending) bool { return strings.HasSuffix(key, e.text) })
	if i < 0 {
		return "", 0, false
	}
	name := strings.TrimSuffix(key, endings[i].text)
	if flat, ok := strings.CutPrefix(name, flatPrefix); ok {
		name, ok = m.flat[flat]
		return name, endings[i].role, ok
	}
	for _, p := range prefixes {
		name = strings.TrimPrefix(name, p)
	}
	_, ok = m.shapes[name]
	return name, endings[i].role, ok
}
