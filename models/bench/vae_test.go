package bench

import (
	"fmt"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/vae"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// By hand, for a tile of 17 frames of 512×768: 2·27·512² operations a place at 30,720 places (10 convolutions), 122,880
// (7), 884,736 (1); then 2·27·512·256, five of 2·27·256² at 884,736; one of 2·27·256², one of 2·27·256·128, five of
// 2·27·128² at 6,684,672; shortcuts and ends.
func TestWorkOfThePublishedDecoder(t *testing.T) {
	size := vae.Size{Frames: 17, Height: 512, Width: 768}
	w := WorkOfDecode(weights.HunyuanVAE(), size, vae.Whole())
	if got := w.Convolutions / 1e12; math.Abs(got-116.9) > 0.3 {
		t.Errorf("%.2f TFLOP of convolutions, want about 116.9", got)
	}
	if got := w.Attention / 1e12; math.Abs(got-1.22) > 0.02 {
		t.Errorf("%.3f TFLOP of attention, want about 1.22", got)
	}
	size.Frames = 121
	if ratio := WorkOfDecode(weights.HunyuanVAE(), size, vae.Whole()).Total() / w.Total(); math.Abs(ratio-14) > 1e-9 {
		t.Errorf("121 frames are %.3f tiles, want 14", ratio)
	}
}

func TestByPartAddsUpWhatDiffersInSizes(t *testing.T) {
	got := byPart([]Kernel{{"conv3d 16x3x27", 2, 50}, {"conv3d 32x3x27", 1, 30}, {"groupnorm moments 5x8", 4, 9}, {"groupnorm 5x8", 1, 2}, {"fill", 1, 1}})
	want := []Kernel{{"conv3d", 3, 80}, {"groupnorm moments", 4, 9}, {"groupnorm", 1, 2}, {"fill", 1, 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
}

func TestRunVAEMeasuresASmallDecoder(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{Timings: true})
	config := weights.HunyuanVAE()
	config.BlockOutChannels, config.LayersPerBlock, config.NormNumGroups = []int{8, 8, 16, 16}, 1, 4
	told := 0
	r, err := RunVAE(t.Context(), d, VAEOptions{Config: config, Weights: load.Synthetic(weights.F16), Rounds: 2,
		Size: vae.Size{Frames: 5, Height: 16, Width: 24}, Progress: func(_, _, _ int) { told++ }})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Rounds) != 2 || told != 2 || r.PeakDevice == 0 || r.Work.Total() <= 0 {
		t.Fatalf("progress told %d times: %+v", told, r)
	}
	for _, round := range r.Rounds {
		if round.Time <= 0 || round.DeviceTime <= 0 || round.Dispatches == 0 || len(round.Kernels) < len(round.Parts) || len(round.Parts) < 3 {
			t.Errorf("%+v", round)
		}
	}
	if _, err := RunVAE(t.Context(), d, VAEOptions{}); err == nil {
		t.Error("no rounds: no error")
	}
}

// BenchmarkDecode decodes 121 frames of 512×768 with the published network's sizes, on anything but a discrete GPU one
// small picture, and prints where the time goes.
func BenchmarkDecode(b *testing.B) {
	printf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) } // a log of a benchmark is cut short
	d := enginetest.OpenWith(b, engine.Options{Timings: true})
	size := vae.Size{Frames: 1, Height: 16, Width: 16}
	if d.Summary.Physical.Info.Kind == "discrete gpu" {
		size = vae.Size{Frames: 121, Height: 512, Width: 768}
	}
	for b.Loop() {
		r, err := RunVAE(b.Context(), d, VAEOptions{Config: weights.HunyuanVAE(), Weights: load.Synthetic(weights.F16), Size: size, Rounds: 2})
		if err != nil {
			b.Fatal(err)
		}
		printf("%s, %s, %s kernels, %+v: loaded in %.2f s, peak %.2f GiB", r.Device, r.Driver, r.Kernels, r.Size, r.LoadTime.Seconds(), float64(r.PeakDevice)/(1<<30))
		for n, round := range r.Rounds {
			printf("round %d: %.3f s, device %.3f s, host %.3f s, %.1f TFLOP/s, %d dispatches, %d submits", n, round.Time.Seconds(),
				round.DeviceTime.Seconds(), round.RecordTime.Seconds(), round.TFLOPS, round.Dispatches, round.Submits)
		}
		last := r.Rounds[len(r.Rounds)-1]
		for _, k := range last.Parts {
			printf("%-24s %6d calls %8.1f ms", k.Label, k.Calls, k.Time.Seconds()*1e3)
		}
		for _, k := range last.Kernels[:min(40, len(last.Kernels))] {
			printf("    %-40s %6d calls %8.1f ms, %.3f ms each", k.Label, k.Calls, k.Time.Seconds()*1e3, k.Time.Seconds()*1e3/float64(k.Calls))
		}
	}
}
