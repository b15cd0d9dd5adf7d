package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// runVAE encodes and decodes every input of the case, whole and in tiles.
func runVAE(ctx context.Context, d *engine.Device, c *testCase, o Options) error {
	config := weights.HunyuanVAE()
	var cases [][]json.RawMessage
	var tiles [2][]int
	if err := errors.Join(c.meta("config", &config), c.meta("cases", &cases), c.meta("tiles", &tiles)); err != nil {
		return err
	}
	if len(tiles[0]) != 4 || len(tiles[1]) != 3 {
		return fmt.Errorf("metadata \"tiles\" is %v", tiles)
	}
	tiling := vae.Tiling{Frames: tiles[0][1], Height: tiles[0][2], Width: tiles[0][3], FrameStride: tiles[1][0], HeightStep: tiles[1][1], WidthStep: tiles[1][2]}
	r, err := c.reader()
	if err != nil {
		return err
	}
	v, err := vae.New(d, r, config, o.Precision)
	if err != nil {
		return err
	}
	defer v.Close()
	if err := errors.Join(v.LoadEncoder(ctx), v.LoadDecoder(ctx)); err != nil {
		return err
	}
	for _, raw := range cases {
		var name, kind string
		if len(raw) < 2 || json.Unmarshal(raw[0], &name) != nil || json.Unmarshal(raw[1], &kind) != nil {
			return fmt.Errorf("metadata \"cases\" has the entry %s", raw)
		}
		use := vae.Tiling{}
		if strings.HasSuffix(kind, "_tiled") {
			use = tiling
		}
		if err := c.vaeCase(ctx, d, v, o, name, strings.HasPrefix(kind, "enc"), use); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *testCase) vaeCase(ctx context.Context, d *engine.Device, v *vae.VAE, o Options, name string, encode bool, tiling vae.Tiling) error {
	values, shape, err := c.channelsLast(name + ".in")
	if err != nil {
		return err
	}
	in, err := d.Alloc("case input", engine.F32, shape...)
	if err != nil {
		return err
	}
	defer d.Free(in)
	if err := d.UploadF32(ctx, in, values); err != nil {
		return err
	}
	outputs := map[string][]float32{}
	if encode {
		p, err := v.Encode(ctx, in, vae.EncodeOptions{Tiling: tiling})
		if err != nil {
			return err
		}
		defer p.Free()
		if outputs[name+".out.mean"], outputs[name+".out.logvar"], err = p.Download(ctx); err != nil {
			return err
		}
	} else {
		err := v.Decode(ctx, in, vae.DecodeOptions{Tiling: tiling, Float: true}, func(f vae.Frames) error {
			outputs[name+".out"] = append(outputs[name+".out"], f.Float...)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, output := range []string{name + ".out", name + ".out.mean", name + ".out.logvar"} {
		got, ok := outputs[output]
		if !ok {
			continue
		}
		want, _, err := c.channelsLast(output)
		if err != nil {
			return err
		}
		if len(got) != len(want) {
			return fmt.Errorf("%s has %d values, the reference %d", output, len(got), len(want))
		}
		c.add(output, "relative error", RelativeError(got, want), o.limit(limitVAE))
	}
	return nil
}

// limit is a component's limit at the precision.
func (o Options) limit(mixed float64) float64 {
	if o.Precision == load.Mixed {
		return mixed
	}
	return limitF32
}

// channelsLast reads a tensor [1, C, T, H, W] as [T, H, W, C].
func (c *testCase) channelsLast(name string) ([]float32, []int, error) {
	t, err := c.tensor(name)
	if err != nil {
		return nil, nil, err
	}
	if len(t.Shape) != 5 || t.Shape[0] != 1 || !t.DType.IsWeight() {
		return nil, nil, fmt.Errorf("%s is %s %v, want numbers [1, C, T, H, W]", name, t.DType, t.Shape)
	}
	channels, places := t.Shape[1], t.Shape[2]*t.Shape[3]*t.Shape[4]
	in, out := t.Float32s(), make([]float32, t.Elements())
	for k := range channels {
		for p := range places {
			out[p*channels+k] = in[k*places+p]
		}
	}
	return out, append(append([]int{}, t.Shape[2:]...), channels), nil
}
