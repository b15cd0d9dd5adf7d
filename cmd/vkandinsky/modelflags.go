package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/tiny"
	"github.com/vkandinsky/vkandinsky/swap"
)

// modelFlags name a model and how exactly it computes.
type modelFlags struct {
	configName, dir, precisionName, dtype, linearName string
	tinyDefault                                       bool // no model named means the one inside the program
}

func (m *modelFlags) register(f *pflag.FlagSet) {
	byDefault := ""
	if m.tinyDefault {
		byDefault = "; by default " + tiny.ConfigName + ", the small model inside the program"
	}
	f.StringVar(&m.configName, "config", "", "configuration: a yaml `FILE` or the name of a built-in one (vkandinsky synth --help lists them)"+byDefault)
	f.StringVar(&m.dir, "checkpoint-dir", "", "`FOLDER` to look for the configuration's checkpoints in; a Diffusers folder needs no --config")
	f.StringVar(&m.precisionName, "precision", "mixed", "`HOW` exactly to compute: mixed (16-bit operands, fp32 sums) or f32")
	f.StringVar(&m.dtype, "dtype", "", "the same as a `TYPE` of the reference program: bfloat16 or float16 mean mixed, float32 means f32")
	f.StringVar(&m.linearName, "linear", "full", "`NUMBERS` for the linear layers of the visual blocks: full (as --precision says) or int8 (8-bit integers: half the memory and bus for blocks, errors of about a hundredth; not with --host-weights int8)")
}

// config reads the configuration, or that of a Diffusers folder.
func (m *modelFlags) config() (*configs.Config, error) {
	if m.configName != "" {
		c, err := configs.Load(m.configName)
		return c, badInput(err)
	}
	if m.dir == "" && m.tinyDefault {
		return tiny.Config()
	}
	if m.dir == "" {
		return nil, badInput(fmt.Errorf("say which model: --config FILE (built in: %s), or --checkpoint-dir with a Diffusers folder", strings.Join(configs.Presets(), ", ")))
	}
	c, err := kandinsky5.OpenDiffusers(m.dir)
	if err != nil {
		return nil, badInput(err)
	}
	return c.Config, nil
}

// checkpoint finds the networks of a configuration that config returned.
func (m *modelFlags) checkpoint(config *configs.Config) (*kandinsky5.Checkpoint, error) {
	if m.inProgram(config) {
		return tiny.Checkpoint()
	}
	if m.configName == "" {
		c, err := kandinsky5.OpenDiffusers(m.dir)
		return c, badInput(err)
	}
	c, err := kandinsky5.OpenCheckpoint(config, m.dir)
	return c, badInput(err)
}

// precision joins the two flags for it.
func (m *modelFlags) precision() (load.Precision, error) {
	p, err := load.ParsePrecision(m.precisionName)
	if err != nil {
		return p, badInput(fmt.Errorf("--precision: %w", err))
	}
	switch m.dtype {
	case "":
	case "bfloat16", "float16":
		if p != load.Mixed {
			return p, badInput(fmt.Errorf("--precision %s and --dtype %s contradict each other", p, m.dtype))
		}
	case "float32":
		p = load.Float32
	default:
		return p, badInput(fmt.Errorf("--dtype %q: use bfloat16, float16 or float32", m.dtype))
	}
	return p, nil
}

// linear reads the flag for linear layers.
func (m *modelFlags) linear(p load.Precision) (load.Linear, error) {
	l, err := load.ParseLinear(m.linearName)
	if err != nil {
		return l, badInput(fmt.Errorf("--linear: %w", err))
	}
	if l == load.LinearInt8 && p != load.Mixed {
		return l, badInput(fmt.Errorf("--linear int8 needs --precision mixed"))
	}
	return l, nil
}

// sizeFlags say what is to be made. Sizes are in pixels.
type sizeFlags struct {
	width, height, seconds int
	length                 *pflag.Flag // of seconds: whether it was given
}

func (s *sizeFlags) register(f *pflag.FlagSet) {
	f.IntVar(&s.width, "width", 0, "`PIXELS`; by default the picture's aspect (i2v), or 768 (1024 for 1024-pixel models)")
	f.IntVar(&s.height, "height", 0, "`PIXELS`; by default the picture's aspect (i2v), or 512 (1024 for 1024-pixel models)")
	f.IntVar(&s.seconds, "video-duration", 5, "`SECONDS`; 0 makes one picture; without the flag a configuration that names a length of its own decides")
	s.length = f.Lookup("video-duration")
}

// duration is how many seconds of video are wanted.
func (s *sizeFlags) duration(config *configs.Config) int {
	if s.length.Changed {
		return s.seconds
	}
	return config.Seconds()
}

// swapFlags say how transformer blocks are held.
type swapFlags struct {
	enable               bool
	inMemory, stream     int
	policyName, tierName string
	hostName             string
}

// defaultBlocksInMemory is what --enable-block-swap means without a number, as in the reference program.
const defaultBlocksInMemory = 6

func (s *swapFlags) register(f *pflag.FlagSet) {
	f.BoolVar(&s.enable, "enable-block-swap", false, "keep only some visual blocks on the device, swap the others in from host memory")
	f.IntVar(&s.inMemory, "blocks-in-memory", 0, fmt.Sprintf("how many `BLOCKS` the device holds at a time; by default generate and plan take what fits; with --enable-block-swap the configuration's, or %d", defaultBlocksInMemory))
	f.IntVar(&s.stream, "stream-slots", 0, "of these, the `SLOTS` that swapped blocks take turns in (default 2)")
	f.StringVar(&s.policyName, "swap-policy", "resident", "`POLICY`: resident (most blocks stay, the others stream) or fifo (all take turns)")
	f.StringVar(&s.tierName, "host-tier", "", "`PLACE` where blocks wait: pinned (host-visible memory), mapped (the file, through staging buffers) or mixed (as many pinned as the budget holds, the others mapped); by default what the host has memory for")
	f.StringVar(&s.hostName, "host-weights", "bf16", "`TYPE` in which blocks wait, cross the bus and lie on the device: bf16, bf16z (exponents coded: 0.72 of the memory and less of the bus, the same results), or int8 (little more than half; coarser by about 0.5 % rms)")
}

func (s *swapFlags) policy() swap.Policy    { return swap.Policy(s.policyName) }
func (s *swapFlags) tier() swap.HostTier    { return swap.HostTier(s.tierName) }
func (s *swapFlags) host() load.HostWeights { return load.HostWeights(s.hostName) }

// blocks returns how many visual blocks the device holds, 0 for all. The command line overrides the configuration, and a
// number of blocks asks for swapping by itself.
func (s *swapFlags) blocks(f *flags, config *configs.Config) (int, error) {
	switch swap.Policy(s.policyName) {
	case swap.Resident, swap.FIFO:
	default:
		return 0, badInput(fmt.Errorf("--swap-policy %q: use %s or %s", s.policyName, swap.Resident, swap.FIFO))
	}
	switch swap.HostTier(s.tierName) {
	case "", swap.Pinned, swap.Mixed, swap.Mapped:
	default:
		return 0, badInput(fmt.Errorf("--host-tier %q: use %s, %s or %s", s.tierName, swap.Pinned, swap.Mixed, swap.Mapped))
	}
	if _, err := load.ParseHostWeights(s.hostName); err != nil {
		return 0, badInput(fmt.Errorf("--host-weights: %w", err))
	}
	n, total := 0, config.Model.DiT.NumVisualBlocks
	switch {
	case f.changed("enable-block-swap") && !s.enable:
		if f.changed("blocks-in-memory") {
			return 0, badInput(fmt.Errorf("--blocks-in-memory needs block swapping, which --enable-block-swap=false turns off"))
		}
		return 0, nil
	case f.changed("blocks-in-memory"):
		n = s.inMemory
	case !s.enable && !config.BlockSwap.Enabled:
		return 0, nil
	case config.BlockSwap.BlocksInMemory > 0:
		n = config.BlockSwap.BlocksInMemory
	default:
		n = min(defaultBlocksInMemory, total)
	}
	if n < 1 || n > total {
		return 0, badInput(fmt.Errorf("--blocks-in-memory %d: the model has %d visual blocks, use 1 to %d", n, total, total))
	}
	if s.stream < 0 || s.stream > n {
		return 0, badInput(fmt.Errorf("--stream-slots %d: use 1 to the number of blocks in memory, %d", s.stream, n))
	}
	return n, nil
}

// asked is blocks without the configuration's say: a plan chooses the number (0) unless a flag asks for one, or for all.
func (s *swapFlags) asked(f *flags, config *configs.Config) (int, error) {
	n, err := s.blocks(f, config)
	switch {
	case err != nil:
	case f.changed("enable-block-swap") && !s.enable:
		n = config.Model.DiT.NumVisualBlocks
	case !f.changed("enable-block-swap") && !f.changed("blocks-in-memory"):
		n = 0
	}
	return n, err
}

// checkParent returns an error when the folder that a path lies in is not there.
func checkParent(flag, path string) error {
	parent := filepath.Dir(path)
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		return badInput(fmt.Errorf("--%s %s: there is no folder %s", flag, path, parent))
	}
	return nil
}
