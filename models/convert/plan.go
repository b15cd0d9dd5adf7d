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

// metadata is what kandinsky.cpp's converter writes (scripts/convert_to_gguf.py): that program knows files by it.
func (n network) metadata(t Type) []weights.GGUFValue {
	var c weights.DiTConfig
	switch config := n.config.(type) {
	case weights.DiTConfig:
		c = config
	case weights.QwenConfig:
		q := config.Text
		return append([]weights.GGUFValue{
			{Key: "general.architecture", Value: "qwen2"}, {Key: "general.name", Value: fmt.Sprintf("Qwen2.5-VL text encoder, %s", t)},
			{Key: "qwen2.block_count", Value: uint32(q.NumHiddenLayers)}, {Key: "qwen2.embedding_length", Value: uint32(q.HiddenSize)},
			{Key: "qwen2.attention.head_count", Value: uint32(q.NumAttentionHeads)}, {Key: "qwen2.attention.head_count_kv", Value: uint32(q.NumKeyValueHeads)},
			{Key: "qwen2.attention.layer_norm_rms_epsilon", Value: float32(q.RMSNormEps)}, {Key: "qwen2.rope.freq_base", Value: float32(q.RopeTheta)},
		}, n.tokenizer...)
	case weights.CLIPConfig:
		return append([]weights.GGUFValue{
			{Key: "general.architecture", Value: "clip"}, {Key: "general.name", Value: fmt.Sprintf("CLIP text encoder, %s", t)},
			{Key: "clip.embedding_length", Value: uint32(config.HiddenSize)}, {Key: "clip.block_count", Value: uint32(config.NumHiddenLayers)},
			{Key: "clip.attention.head_count", Value: uint32(config.NumAttentionHeads)},
		}, n.tokenizer...)
	default:
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
