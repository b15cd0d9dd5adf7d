package kandinsky5_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// A clip from a picture and a prompt, with two transformer blocks on the device and the others swapped in. The model
// here is a small one of random weights, so that the example runs anywhere; a real one is opened in the same way.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "kandinsky")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	model := filepath.Join(dir, "small-i2v")
	if err := weights.Synth(ctx, model, weights.SmallSynth()); err != nil {
		log.Fatal(err)
	}

	checkpoint, err := kandinsky5.OpenDiffusers(model)
	if err != nil {
		log.Fatal(err)
	}
	device, err := engine.Open(ctx, engine.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer device.Close()
	pipeline, err := kandinsky5.New(ctx, device, checkpoint, kandinsky5.Options{BlocksInMemory: 2})
	if err != nil {
		log.Fatal(err)
	}
	defer pipeline.Close()

	picture := &kandinsky5.Image{Height: 32, Width: 32, Pix: make([]uint8, 3*32*32)}
	steps := 0
	result, err := pipeline.Generate(ctx, kandinsky5.Request{
		Prompt: "the dragon breathes fire", Image: picture, Width: 32, Height: 32, Seconds: 1, Steps: 2, Seed: 42,
		Progress: func(p kandinsky5.Progress) {
			if p.Stage == kandinsky5.StageDenoise && p.Done > 0 {
				steps++
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d steps, %d frames of %d×%d\n", steps, result.Clip.Frames, result.Clip.Width, result.Clip.Height)
	fmt.Println(result.Stats.SwapPlan)
	// Output:
	// 2 steps, 25 frames of 32×32
	// 0 of 6 blocks resident, 6 streamed through 2 slots (resident)
}

// What the 20B model takes with six blocks on the device, from its configuration alone.
func ExamplePlanRun() {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		log.Fatal(err)
	}
	plan, err := kandinsky5.PlanRun(config, nil, kandinsky5.Options{BlocksInMemory: 6},
		kandinsky5.Request{Seconds: 5, Width: 768, Height: 512}, kandinsky5.PlanLimits{Device: 24 << 30})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(plan.Swap)
	fmt.Println("fits 24 GiB:", plan.Fits)
	// Output:
	// 4 of 60 blocks resident, 56 streamed through 2 slots (resident)
	// fits 24 GiB: true
}
