package verify

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/torchrand"
)

// runRandn compares the noise of seeds with what torch.randn drew on a CUDA card.
func runRandn(_ context.Context, _ *engine.Device, c *testCase, _ Options) error {
	var card torchrand.Card
	if err := c.meta("multi_processor_count", &card.Multiprocessors); err != nil {
		return err
	}
	if err := c.meta("max_threads_per_multi_processor", &card.ThreadsPerMultiprocessor); err != nil {
		return err
	}
	key := regexp.MustCompile(`^seed(\d+)\.([0-9x]+)\.f32_head$`)
	differ, total, worst := 0, 0, 0.0
	for _, name := range c.file.Names() {
		m := key.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		seed, _ := strconv.ParseUint(m[1], 10, 64)
		n := 1
		for _, side := range strings.Split(m[2], "x") {
			length, err := strconv.Atoi(side)
			if err != nil || length < 1 || length > 1<<20 || n > 1<<26/length {
				return fmt.Errorf("tensor %q names an impossible shape", name)
			}
			n *= length
		}
		exact, rounded := make([]float32, n), make([]float32, n)
		for _, draw := range []struct {
			out  []float32
			fill func(*torchrand.Generator, []float32)
		}{{exact, (*torchrand.Generator).Normal}, {rounded, (*torchrand.Generator).NormalBF16}} {
			g, err := torchrand.New(seed, card)
			if err != nil {
				return err
			}
			draw.fill(g, draw.out)
		}
		head, err := c.tensor(name)
		if err != nil {
			return err
		}
		for k, w := range head.Float32s() {
			worst = math.Max(worst, math.Abs(float64(exact[k])-float64(w)))
		}
		d, t, err := c.compareNoise(strings.TrimSuffix(name, "f32_head"), rounded)
		if err != nil {
			return err
		}
		differ, total = differ+d, total+t
	}
	if total == 0 {
		return nil
	}
	c.add("f32 noise", "largest difference", worst, 5e-6)
	c.add("bf16 noise", "differing share", float64(differ)/float64(total), limitRandn)
	return nil
}

// compareNoise counts the bf16 values that differ, at the head, at the tail and in steps of 997.
func (c *testCase) compareNoise(prefix string, noise []float32) (differ, total int, err error) {
	for _, part := range []string{"bf16_head", "bf16_tail", "bf16_stride997"} {
		t, err := c.tensor(prefix + part)
		if err != nil {
			return 0, 0, err
		}
		want := t.Float32s()
		if len(want) > len(noise) {
			return 0, 0, fmt.Errorf("%s%s has more values than were drawn", prefix, part)
		}
		for k, w := range want {
			at := k
			switch part {
			case "bf16_tail":
				at = len(noise) - len(want) + k
			case "bf16_stride997":
				at = 997 * k
			}
			if at >= len(noise) || noise[at] != w {
				differ++
			}
			total++
		}
	}
	return differ, total, nil
}

// runResize compares resized pictures, which must be equal in every pixel.
func runResize(_ context.Context, _ *engine.Device, c *testCase, _ Options) error {
	for _, name := range c.file.Names() {
		number, ok := strings.CutSuffix(name, ".in")
		if !ok {
			continue
		}
		in, err := c.picture(name)
		if err != nil {
			return err
		}
		want, err := c.picture(number + ".out")
		if err != nil {
			return err
		}
		got := media.ResizeBilinearAntialias(in, want.Height, want.Width)
		differ := 0
		for k := range want.Pix {
			if got.Pix[k] != want.Pix[k] {
				differ++
			}
		}
		c.add(fmt.Sprintf("picture %s, %d×%d to %d×%d", number, in.Width, in.Height, want.Width, want.Height), "differing", float64(differ), 0)
	}
	slices.SortFunc(c.results, func(a, b Result) int { return strings.Compare(a.Output, b.Output) })
	return nil
}

// picture reads bytes [3, H, W] as a picture.
func (c *testCase) picture(name string) (*media.Image, error) {
	t, err := c.tensor(name)
	if err != nil {
		return nil, err
	}
	if len(t.Shape) != 3 || t.Shape[0] != 3 || t.DType.Size() != 1 || t.Elements() == 0 {
		return nil, fmt.Errorf("%s is %s %v, want bytes [3, H, W]", name, t.DType, t.Shape)
	}
	im := media.NewImage(t.Shape[1], t.Shape[2])
	places := t.Shape[1] * t.Shape[2]
	for k, v := range t.Data {
		im.Pix[k%places*3+k/places] = v
	}
	return im, nil
}
