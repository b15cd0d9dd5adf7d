package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

// receiptFlags say where the receipt goes.
type receiptFlags struct {
	file string
	none bool
}

func (r *receiptFlags) register(f *pflag.FlagSet) {
	f.StringVar(&r.file, "receipt", "", "write what made the clip into `FILE`.json (default beside the clip, of the same name)")
	f.BoolVar(&r.none, "no-receipt", false, "write no receipt")
}

// check fills in the receipt's name and makes sure that it can be written, over nothing but an older receipt.
func (r *receiptFlags) check(o *outputFlags, from string) error {
	if r.none {
		if r.file != "" {
			return badInputf("--receipt and --no-receipt exclude each other")
		}
		return nil
	}
	given := r.file != ""
	if !given {
		r.file = strings.TrimSuffix(o.file, filepath.Ext(o.file)) + ".json"
	}
	if !strings.EqualFold(filepath.Ext(r.file), ".json") {
		return badInputf("--receipt %s: the file is a .json", r.file)
	}
	const remedy = "name another with --receipt FILE, or write none with --no-receipt"
	if o.files.trace != "" && sameFile(r.file, o.files.trace) {
		return badInputf("the receipt and --trace would both be %s: %s", r.file, remedy)
	}
	if from != "" && sameFile(r.file, from) {
		return badInputf("the receipt would replace %s, which is repeated: %s, or name another clip with -o", r.file, remedy)
	}
	if _, err := receipt.Read(r.file); err != nil && !errors.Is(err, fs.ErrNotExist) && !given {
		return badInputf("the receipt would replace %s, which is none (%w): %s", r.file, err, remedy)
	}
	return badInput(media.CheckFile(r.file))
}

// sameFile says whether two paths are one file, also one that does not exist yet.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	x, errX = os.Stat(filepath.Dir(a))
	y, errY = os.Stat(filepath.Dir(b))
	return errX == nil && errY == nil && os.SameFile(x, y) && strings.EqualFold(filepath.Base(a), filepath.Base(b))
}

// loadPicture reads a picture and remembers which file it was.
func loadPicture(path string) (*kandinsky5.Image, *receipt.Picture, error) {
	data, err := media.ReadImage(path)
	if err != nil {
		return nil, nil, err
	}
	image, err := media.DecodeImage(path, data)
	return image, &receipt.Picture{Path: path, Bytes: int64(len(data)), SHA256: receipt.Sum(data)}, err
}

// configDigest identifies a configuration wherever its files lie.
func configDigest(c *configs.Config) (string, error) {
	bare := *c
	m := &bare.Model
	m.CheckpointPath, m.VAE.CheckpointPath, m.Qwen.CheckpointPath, m.CLIP.CheckpointPath, m.Qwen.TokenizerPath, m.CLIP.TokenizerPath = "", "", "", "", "", ""
	bare.BlockSwap = configs.BlockSwap{}
	text, err := bare.YAML()
	if err != nil {
		return "", err
	}
	return receipt.Sum(append([]byte(string(c.Pipeline)+"\n"), text...)), nil
}

// describeDevice is what a receipt says about the device, once it has computed.
func describeDevice(d *engine.Device) receipt.Device {
	info := d.Summary.Physical.Info
	out := receipt.Device{Name: info.Name, Driver: strings.TrimSpace(info.Driver + " " + info.DriverInfo), API: info.API, Kernels: d.Caps().Tier.String(), Shaders: d.Used(), Tuned: map[string]string{}}
	for _, t := range d.Tuning().All() {
		out.Tuned[t.Kernel+" "+t.Shape] = t.Choice
	}
	return out
}

// writeReceipt puts a receipt beside the clip, which is written.
func (o *generateOptions) writeReceipt(j *job, m made) (*receipt.Receipt, error) {
	r, err := o.newReceipt(j, m)
	if err != nil {
		return nil, err
	}
	return r, media.WriteFile(o.receipt.file, r.Write)
}

func (o *generateOptions) newReceipt(j *job, m made) (*receipt.Receipt, error) {
	r := &receipt.Receipt{
		Program: versionLine(debug.ReadBuildInfo()), Created: time.Now().UTC().Truncate(time.Second),
		Settings: o.settingsOf(j, m.result.Settings), Memory: o.memoryOf(j.options), Picture: o.request.picture,
		Weights: m.weights, Device: m.device, Rounding: m.result.Rounding, Digests: *m.result.Digests,
		Plan:    receipt.Plan{Blocks: m.result.Stats.SwapPlan, HostTier: string(m.result.Stats.HostTier), Tiles: m.result.Stats.Tiles},
		Timings: receipt.Timings{Steps: m.result.Stats.StepTimes},
	}
	if p := m.result.Plan; p != nil {
		r.Plan.DeviceBytes, r.Plan.PinnedBytes = p.Device, p.Pinned
	}
	for _, s := range m.result.Stats.Stages {
		r.Timings.Stages = append(r.Timings.Stages, receipt.StageTime{Stage: string(s.Stage), Took: s.Took, PeakDevice: s.PeakDevice})
	}
	var err error
	if r.Settings.ConfigSHA256, err = configDigest(j.checkpoint.Config); err != nil {
		return nil, err
	}
	r.Output.File = filepath.Base(o.output.file)
	r.Output.SHA256, r.Output.Bytes, err = receipt.SumFile(o.output.file)
	return r, err
}

func (o *generateOptions) settingsOf(j *job, s kandinsky5.Settings) receipt.Settings {
	out := receipt.Settings{
		Config: o.model.configName, CheckpointDir: o.model.dir, Prompt: s.Prompt, ExpandPrompt: s.ExpandPrompt, ExpandedPrompt: s.ExpandedPrompt,
		NegativePrompt: s.NegativePrompt, Width: s.Size.Width, Height: s.Size.Height, SizeGiven: o.request.size.width > 0, VideoDuration: s.Geometry.Seconds,
		SampleSteps: s.Steps, GuidanceWeight: s.Guidance, SchedulerScale: s.SchedulerScale, Seed: s.Seed, MagCache: s.MagCache,
		Precision: j.options.Precision.String(), Linear: j.options.Linear.String(), HostWeights: o.swap.hostName, QuantizeQwen: j.options.QuantizeQwen,
		Kernels: o.device.kernels,
	}
	if j.options.Attention != load.AttentionOwn {
		out.Attention = j.options.Attention.String()
	}
	for _, l := range s.LoRA {
		out.LoRA = append(out.LoRA, receipt.LoRA{File: l.Path, Weight: l.Weight, Scales: l.Scales})
	}
	return out
}

func (o *generateOptions) memoryOf(k kandinsky5.Options) receipt.Memory {
	return receipt.Memory{
		EnableBlockSwap: k.BlocksInMemory > 0, BlocksInMemory: k.BlocksInMemory, StreamSlots: k.StreamSlots, SwapPolicy: string(k.SwapPolicy),
		HostTier: string(k.HostTier), HeadGroups: k.HeadGroups, QwenLayersInMemory: k.QwenLayersInMemory, Offload: k.Offload, VRAMBudget: int64(o.device.vram), RAMBudget: int64(o.device.ram),
	}
}
