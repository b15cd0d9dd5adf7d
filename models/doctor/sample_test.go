package doctor

import (
	"math"
	"time"
)

// sample is an invented report that has a bit of everything.
func sample() *Report {
	r := &Report{Program: "vkandinsky test", Time: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC), Host: Host{OS: "linux", Arch: "amd64", CPUs: 16, MemoryFree: 120 << 30},
		Device: "Card <A> & Sons", Driver: "Driver 1.2", API: "1.4.312", Kind: "discrete gpu", Tier: "matrix2"}
	r.add(Result{Name: "device", Title: "driver", Status: OK, Summary: "Driver 1.2, Vulkan 1.4.312, kernels matrix2", Facts: []Fact{{"device", "Card <A> & Sons"}, {"offers", "fp16, bf16"}}})
	r.add(Result{Name: "layers", Title: "injected layers", Status: Warning, Summary: "1 loaded, known to crash programs: Overlay", Advice: []string{"Set DISABLE_X=1 to keep it out."},
		Facts: []Fact{{"VK_LAYER_x", "loaded"}}})
	rates := map[string]float64{"base": 36, "fp16": 31, "matrix": 286, "matrix2": 402}
	for _, tier := range []string{"matrix2", "matrix", "fp16", "base"} {
		result := Result{Name: "kernels-" + tier, Title: "kernels, tier " + tier, Tier: tier, Status: OK, Summary: "3 kernels agree with float64"}
		for n, kernel := range []string{"linear layer", "attention", "convolution"} {
			rate := rates[tier] / float64(n+1)
			k := Kernel{Kernel: kernel, Shape: "16384×4096×4096", Seconds: 0.55 / rate, Rate: rate, Unit: "TFLOP/s", Error: finite(1e-5 * float64(n+1)), Limit: 5e-4, Pass: true}
			if tier == "fp16" && n == 1 {
				k.Error, k.Pass, k.Problem = finite(math.NaN()), false, "wrong numbers"
				result.Status, result.Summary = Failed, "1 of 3 kernels compute wrong numbers"
			}
			result.Kernels = append(result.Kernels, k)
		}
		r.add(result)
	}
	r.add(Result{Name: "norms", Title: "kernels, every tier", Tier: everyTier, Status: OK, Summary: "1 kernel agrees",
		Kernels: []Kernel{{Kernel: "layer norm", Shape: "32768×4096", Shader: "rownorm", Seconds: 1e-3, Rate: 2100, Unit: "GB/s", Error: 7e-8, Limit: 4e-6, Pass: true}}})
	r.add(Result{Name: "copies", Title: "copies", Status: OK, Summary: "up 49.5 GB/s, down 51.0 GB/s", Copies: []Copy{
		{Direction: "up", Beside: "nothing", Bytes: 256 << 20, Rate: 49.5e9}, {Direction: "down", Beside: "nothing", Bytes: 256 << 20, Rate: 51e9},
		{Direction: "up", Beside: "computing", Bytes: 256 << 20, Rate: 48.1e9, Slowdown: 1.03}, {Direction: "down", Beside: "computing", Bytes: 256 << 20, Rate: 47e9, Slowdown: 1.02}}})
	r.add(Result{Name: "dispatch", Title: "longest dispatch", Status: OK, Summary: "the longest takes 18 ms", Dispatch: []Dispatch{
		{Kernel: "linear layer", Cost: 2e12, Seconds: 0.0071, Measured: true}, {Kernel: "attention", Cost: 2e12, Seconds: 0.018, Measured: true},
		{Kernel: "convolution", Cost: 2e12, Seconds: 2.4, Measured: false}}})
	pinned := Result{Name: "pinned", Title: "pinned memory", Status: NotAvailable, Summary: "not tried"}
	for n := range 24 {
		pinned.Pinned = append(pinned.Pinned, PinnedPoint{Total: int64(n+1) << 30, Seconds: 0.2 + 0.05*math.Sin(float64(n))})
	}
	r.add(pinned)
	return r
}
