// Package vae3dtest writes the video autoencoder's decoder as kandinsky.cpp does, for tests: this program reads such files and
// writes none.
package vae3dtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// rename gives the names of kandinsky.cpp (scripts/convert_to_gguf.py) to the published ones, in this order.
var rename = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`(conv_in|conv_out|conv1|conv2)\.conv\.`), "$1."},
	{regexp.MustCompile(`conv_norm_out\.`), "norm_out."},
	{regexp.MustCompile(`mid_block\.resnets\.0\.`), "mid.block_1."},
	{regexp.MustCompile(`mid_block\.resnets\.1\.`), "mid.block_2."},
	{regexp.MustCompile(`mid_block\.attentions\.0\.group_norm\.`), "mid.attn_1.norm."},
	{regexp.MustCompile(`mid_block\.attentions\.0\.to_out\.0\.`), "mid.attn_1.proj_out."},
	{regexp.MustCompile(`mid_block\.attentions\.0\.to_`), "mid.attn_1."},
	{regexp.MustCompile(`up_blocks\.(\d+)\.resnets\.(\d+)\.`), "up.$1.block.$2."},
	{regexp.MustCompile(`up_blocks\.(\d+)\.upsamplers\.0\.conv\.conv\.`), "up.$1.upsample.conv."},
	{regexp.MustCompile(`conv_shortcut\.conv\.`), "nin_shortcut."},
}

// Write reads the autoencoder in a file or folder, whose convolutions are in 16 bits, and writes its decoder to another file.
func Write(tb testing.TB, from, to string) {
	tb.Helper()
	c, err := weights.OpenCheckpoint(from)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	var infos []weights.TensorInfo
	data := map[string][]byte{}
	for _, name := range c.Names() {
		if strings.HasPrefix(name, "encoder.") || strings.HasPrefix(name, "quant_conv.") {
			continue
		}
		t, _ := c.Tensor(name)
		info, bytes := store(tb, t)
		infos, data[info.Name] = append(infos, info), bytes
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o777); err != nil {
		tb.Fatal(err)
	}
	w, err := weights.CreateGGUF(to, infos, []weights.GGUFValue{{Key: "general.architecture", Value: "vae3d"},
		{Key: "vae3d.latent_channels", Value: uint32(16)}, {Key: "vae3d.scaling_factor", Value: float32(0.476986)}})
	if err != nil {
		tb.Fatal(err)
	}
	for _, info := range w.Order() {
		if _, err := w.Write(data[info.Name]); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
}

// store gives a tensor the name, the type and the order that it has in such a file.
func store(tb testing.TB, t weights.Tensor) (weights.TensorInfo, []byte) {
	tb.Helper()
	info := weights.TensorInfo{Name: t.Name, DType: weights.F32, Shape: t.Shape}
	for _, r := range rename {
		info.Name = r.from.ReplaceAllString(info.Name, r.to)
	}
	if len(t.Shape) > 1 {
		info.DType = weights.F16
	}
	values := make([]byte, t.Elements()*info.DType.Size())
	if err := weights.ConvertTo(values, t, info.DType); err != nil {
		tb.Fatal(err)
	}
	if len(t.Shape) != 5 {
		return info, values
	}
	out, in, taps, plane := t.Shape[0], t.Shape[1], t.Shape[2], t.Shape[3]*t.Shape[4]*info.DType.Size()
	var moved []byte
	for o := range out {
		for tap := range taps {
			for i := range in {
				moved = append(moved, values[((o*in+i)*taps+tap)*plane:][:plane]...)
			}
		}
	}
	info.Name = strings.TrimSuffix(info.Name, "weight") + fmt.Sprintf("weight.kd%d", taps)
	info.Shape = []int{out * taps, in, t.Shape[3], t.Shape[4]}
	return info, moved
}
