package weights

import (
	"fmt"
	"strconv"
	"strings"
)

// kandinsky.cpp writes the decoder of the video autoencoder with names of its own, and a convolution's weights
// [out, in, t, h, w] as [out·t, in, h, w] in the order (out, t, in, h, w), because ggml's tensors have four axes: the
// extent t ends the name, as in ".weight.kd3" (kandinsky.cpp, scripts/convert_to_gguf.py).
const (
	ggufArchitecture = "general.architecture"
	vae3dKind        = "vae3d" // the video autoencoder without its encoder
	pictureVAEKind   = "vae"   // the same program's picture autoencoder
	vae3dScaling     = "vae3d.scaling_factor"
	tapsSuffix       = ".weight.kd"
	maxTaps          = 7
)

// vae3dParts are the parts of names that differ, by what kandinsky.cpp calls them. No two places use one for different things.
func vae3dParts() map[string]string {
	return map[string]string{
		"conv_in": "conv_in.conv", "conv_out": "conv_out.conv", "norm_out": "conv_norm_out",
		"mid": "mid_block", "block_1": "resnets.0", "block_2": "resnets.1", "attn_1": "attentions.0",
		"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0",
		"up": "up_blocks", "block": "resnets", "upsample": "upsamplers.0.conv",
		"conv1": "conv1.conv", "conv2": "conv2.conv", "nin_shortcut": "conv_shortcut.conv",
	}
}

// fromVAE3D gives a tensor of such a file the published name and shape.
func fromVAE3D(t Tensor, parts map[string]string) (Tensor, error) {
	name := t.Name
	if base, taps, ok := strings.Cut(name, tapsSuffix); ok {
		n, err := strconv.Atoi(taps)
		if err != nil || n < 1 || n > maxTaps || len(t.Shape) != 4 || t.Shape[0]%n != 0 || !t.DType.IsWeight() {
			return t, t.errorf("%s %v is no convolution of %.20q frames in time", t.DType, t.Shape, taps)
		}
		t.Shape, t.taps = []int{t.Shape[0] / n, t.Shape[1], n, t.Shape[2], t.Shape[3]}, n
		name = base + plainSuffix
	}
	words := strings.Split(name, ".")
	for k, word := range words {
		if published, ok := parts[word]; ok {
			words[k] = published
		}
	}
	t.Name = strings.Join(words, ".")
	return t, nil
}

// checkVAEFile refuses kandinsky.cpp's autoencoder for pictures.
func checkVAEFile(f *File) error {
	if f.metadata[ggufArchitecture] != pictureVAEKind {
		return nil
	}
	return fmt.Errorf("weights: %s: kandinsky.cpp's autoencoder for pictures: videos need its vae3d.gguf, or the original vae/diffusion_pytorch_model.safetensors", f.path)
}

// values writes the values of a convolution's elements [out, in, t, h, w] from at on, which lie in the order
// (out, t, in, h, w).
func (d *decoder) tapValues(dst []float32, at int) {
	s := d.t.Shape
	in, taps, plane := s[1], s[2], s[3]*s[4]
	for len(dst) > 0 {
		row, p := at/plane, at%plane // row is (out·in + i)·taps + tap
		o, rest := row/(in*taps), row%(in*taps)
		i, tap := rest/taps, rest%taps
		from := ((o*taps+tap)*in+i)*plane + p
		n := min(len(dst), plane-p)
		_ = widen(dst[:n], d.t.part(from, from+n), d.t.DType) // fromVAE3D let no other types through
		dst, at = dst[n:], at+n
	}
}
