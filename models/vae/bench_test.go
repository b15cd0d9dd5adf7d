package vae

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// BenchmarkDecode decodes one tile in time, 17 frames, with the published network's sizes; on anything but a discrete GPU
// a single small picture.
func BenchmarkDecode(b *testing.B) {
	for _, p := range []load.Precision{load.Mixed, load.Float32} {
		b.Run(p.String(), func(b *testing.B) {
			dev := enginetest.Open(b)
			size := Size{1, 16, 16}
			if dev.Summary.Physical.Info.Kind == "discrete gpu" {
				size = Size{17, 512, 768}
			}
			v, err := New(dev, load.Synthetic(weights.F16), weights.HunyuanVAE(), p)
			if err != nil {
				b.Fatal(err)
			}
			defer v.Close()
			if err := v.LoadDecoder(b.Context()); err != nil {
				b.Fatal(err)
			}
			z := size.latents()
			latents, err := dev.Alloc("latents", engine.F32, z[0], z[1], z[2], 16)
			if err != nil {
				b.Fatal(err)
			}
			defer dev.Free(latents)
			values := make([]float32, latents.Elems())
			for i := range values {
				values[i] = float32(i*7919%2003)/1001 - 1
			}
			if err := dev.UploadF32(b.Context(), latents, values); err != nil {
				b.Fatal(err)
			}
			decode := func() {
				if err := v.Decode(b.Context(), latents, DecodeOptions{Tiling: Whole()}, func(Frames) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			decode() // compiles the pipelines
			dev.Mem.ResetPeak()
			for b.Loop() {
				decode()
			}
			pixels := float64(size.Frames * size.Height * size.Width)
			b.ReportMetric(pixels*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpixel/s")
			b.ReportMetric(float64(dev.Mem.Peak(memory.Device))/(1<<30), "GiB")
			b.Logf("%d frames of %d×%d on %s", size.Frames, size.Height, size.Width, dev.Summary.Physical.Info.Name)
		})
	}
}
