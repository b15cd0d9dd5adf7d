package convert

import (
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// output is one tensor of the new file.
type output struct {
	info   weights.TensorInfo
	source weights.Tensor
	stored weights.DType // of the source's values; info's, unless these are its scales
}

// scales says whether the output holds the scales of its source's codes.
func (o output) scales() bool { return o.info.DType != o.stored }

// plan says what the new file holds.
type plan struct {
	format  Format
	outputs []output
	leftOut []string // tensors that the new file does not take
}

// tensorsOf lists a checkpoint's tensors.
func tensorsOf(ckpt *weights.Checkpoint) []weights.Tensor {
	var out []weights.Tensor
	for _, name := range ckpt.Names() {
		t, _ := ckpt.Tensor(name)
		out = append(out, t)
	}
	return out
}

// newPlan decides about every tensor of a network.
func newPlan(tensors []weights.Tensor, c weights.Component, t Type, f Format) plan {
	p := plan{format: f}
	for _, s := range tensors {
		name := s.Name
		if !s.IsWeight() || s.Elements() == 0 || f == GGUF && c == weights.Qwen && !inQwenText(name) {
			p.leftOut = append(p.leftOut, name)
			continue
		}
		stored := t.storedAs(f, s)
		layer := strings.TrimSuffix(name, ".weight")
		add := func(name string, d weights.DType, shape []int) {
			p.outputs = append(p.outputs, output{weights.TensorInfo{Name: name, DType: d, Shape: shape}, s, stored})
		}
		switch stored {
		case weights.I8:
			add(layer+".weight_int8", weights.I8, s.Shape)
			add(layer+".weight_scales", weights.F32, []int{s.Shape[0], s.Shape[1] / scaleRun})
		case weights.F8E4M3:
			add(layer+".weight_fp8", weights.F8E4M3, s.Shape)
			add(layer+".weight_scale", weights.F32, nil)
		default:
			add(name, stored, s.Shape)
		}
	}
	return p
}

// inQwenText says whether a tensor is the text decoder's, which is what GGUF files of Qwen hold: ggml's tensors have at most
// four axes, the vision tower's first has five.
func inQwenText(name string) bool {
	return !strings.HasPrefix(name, "visual.") && name != "lm_head.weight"
}

// create starts the new file.
func (p plan) create(path string, n network, t Type) (*weights.Writer, error) {
	if p.format == GGUF {
		return weights.CreateGGUF(path, p.infos(), n.metadata(t))
	}
	return weights.Create(path, p.infos(), safetensorsMetadata())
}

// infos declares the tensors of the new file.
func (p plan) infos() []weights.TensorInfo {
	infos := make([]weights.TensorInfo, len(p.outputs))
	for k, o := range p.outputs {
		infos[k] = o.info
	}
	return infos
}

// safetensorsMetadata says what programs of PyTorch look for.
func safetensorsMetadata() map[string]string { return map[string]string{"format": "pt"} }

// metadata is what kandinsky.cpp's converter writes for a transformer. Of other networks it wants more than is known here, so
// files of them are for this program.
func (n network) metadata(t Type) []weights.GGUFValue {
	c, ok := n.config.(weights.DiTConfig)
	if !ok {
		return []weights.GGUFValue{{Key: "general.architecture", Value: "kandinsky5-" + string(n.component)}}
	}
	values := []weights.GGUFValue{
		{Key: "general.architecture", Value: "kandinsky5-dit"},
		{Key: "general.name", Value: fmt.Sprintf("Kandinsky 5.0 transformer, %s", t)},
	}
	for _, v := range []struct {
		key string
		n   int
	}{
		{"model_dim", c.ModelDim}, {"ff_dim", c.FFDim}, {"time_dim", c.TimeDim}, {"in_visual_dim", c.PatchVolume() * c.InputChannels()},
		{"out_visual_dim", c.PatchVolume() * c.OutVisualDim}, {"num_text_blocks", c.NumTextBlocks}, {"num_visual_blocks", c.NumVisualBlocks},
	} {
		values = append(values, weights.GGUFValue{Key: "dit." + v.key, Value: uint32(v.n)})
	}
	return values
}
