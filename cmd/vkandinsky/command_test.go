package main

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/load"
)

// invoke runs a command line inside the test.
func invoke(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	status = run(t.Context(), args, &out, &err)
	return status, out.String(), err.String()
}

func TestEveryFlagOfTheReferenceProgramIsThereWithUnderscoresAndDashes(t *testing.T) {
	for _, name := range []string{
		"config", "prompt", "image", "negative_prompt", "width", "height", "video_duration", "expand_prompt", "sample_steps",
		"guidance_weight", "scheduler_scale", "output_filename", "seed", "offload", "magcache", "qwen_quantization", "attention_engine",
		"enable_block_swap", "blocks_in_memory", "dtype",
	} {
		values := map[string]string{
			"config": "x", "prompt": "x", "image": "x", "negative_prompt": "x", "output_filename": "x", "attention_engine": "sage", "dtype": "x",
			"offload": "true", "magcache": "true", "qwen_quantization": "true", "enable_block_swap": "true",
		}
		value := values[name]
		if value == "" {
			value = "3"
		}
		for _, spelling := range []string{name, strings.ReplaceAll(name, "_", "-")} {
			cmd := generateCommand()
			if _, err := cmd.flags.parse("generate", []string{"--" + spelling + "=" + value}); err != nil {
				t.Errorf("--%s: %v", spelling, err)
			}
			if !cmd.flags.changed(strings.ReplaceAll(name, "_", "-")) {
				t.Errorf("--%s was not taken", spelling)
			}
		}
	}
}

func published(t *testing.T) *configs.Config {
	t.Helper()
	c, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFlagsReachTheRequest(t *testing.T) {
	var r requestFlags
	var f flags
	r.register(f.group("test"))
	args := strings.Fields("--prompt fox --negative_prompt dull --width 512 --height 256 --video_duration 2 --sample_steps 7 --guidance_weight 3.5 --scheduler-scale 8 --seed 99 --magcache")
	if _, err := f.parse("test", args); err != nil {
		t.Fatal(err)
	}
	q, err := r.request(&f, published(t))
	if err != nil {
		t.Fatal(err)
	}
	if q.Prompt != "fox" || *q.NegativePrompt != "dull" || q.Width != 512 || q.Height != 256 || q.Seconds != 2 || q.Steps != 7 ||
		q.Guidance != 3.5 || q.SchedulerScale != 8 || q.Seed != 99 || !q.MagCache {
		t.Errorf("request %+v", q)
	}
}

func TestDefaultsAreTheReferenceProgramsOwn(t *testing.T) {
	var r requestFlags
	var f flags
	r.register(f.group("test"))
	if _, err := f.parse("test", []string{"--prompt", "fox"}); err != nil {
		t.Fatal(err)
	}
	q, err := r.request(&f, published(t))
	if err != nil {
		t.Fatal(err)
	}
	if q.Seconds != 5 || q.SchedulerScale != 5 || q.Seed != 1137 || *q.NegativePrompt != configs.DefaultNegativePrompt || q.Steps != 0 || q.Guidance != 0 {
		t.Errorf("request %+v", q)
	}
}

func TestBlocksInMemory(t *testing.T) {
	plain := func(c *configs.Config) {}
	swapping := func(n int) func(c *configs.Config) {
		return func(c *configs.Config) { c.BlockSwap = configs.BlockSwap{Enabled: true, BlocksInMemory: n} }
	}
	for _, c := range []struct {
		name   string
		args   string
		config func(*configs.Config)
		want   int // -1: an error
	}{
		{"nothing asked for", "", plain, 0},
		{"enabled without a number", "--enable-block-swap", plain, 6},
		{"enabled with a number", "--enable_block_swap --blocks_in_memory 2", plain, 2},
		{"a number alone enables", "--blocks-in-memory 3", plain, 3},
		{"the configuration enables", "", swapping(4), 4},
		{"the command line wins", "--blocks-in-memory 9", swapping(4), 9},
		{"the command line turns it off", "--enable-block-swap=false", swapping(4), 0},
		{"off and a number contradict", "--enable-block-swap=false --blocks-in-memory 2", plain, -1},
		{"none", "--blocks-in-memory 0", plain, -1},
		{"more than there are", "--blocks-in-memory 33", plain, -1},
		{"all", "--blocks-in-memory 32", plain, 32},
		{"more streaming than slots", "--blocks-in-memory 2 --stream-slots 3", plain, -1},
		{"negative streaming", "--blocks-in-memory 2 --stream-slots -1", plain, -1},
		{"unknown policy", "--blocks-in-memory 2 --swap-policy lru", plain, -1},
		{"unknown tier", "--blocks-in-memory 2 --host-tier tape", plain, -1},
		{"known policy and tier", "--blocks-in-memory 2 --swap-policy fifo --host-tier mapped", plain, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			config, err := configs.Preset("k5_lite_t2v_5s_sft_sd")
			if err != nil {
				t.Fatal(err)
			}
			c.config(config)
			var s swapFlags
			var f flags
			s.register(f.group("test"))
			if _, err := f.parse("test", strings.Fields(c.args)); err != nil {
				t.Fatal(err)
			}
			got, err := s.blocks(&f, config)
			if (err != nil) != (c.want < 0) || err == nil && got != c.want {
				t.Errorf("blocks in memory %d, error %v; want %d", got, err, c.want)
			}
		})
	}
}

func TestPrecisionInBothVocabularies(t *testing.T) {
	for _, c := range []struct {
		args string
		want load.Precision
		bad  bool
	}{
		{"", load.Mixed, false}, {"--precision f32", load.Float32, false}, {"--dtype bfloat16", load.Mixed, false},
		{"--dtype float16", load.Mixed, false}, {"--dtype float32", load.Float32, false}, {"--dtype fp8", 0, true},
		{"--precision f32 --dtype bfloat16", 0, true}, {"--precision half", 0, true},
	} {
		var m modelFlags
		var f flags
		m.register(f.group("test"))
		if _, err := f.parse("test", strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		got, err := m.precision()
		if (err != nil) != c.bad || err == nil && got != c.want {
			t.Errorf("%q gave %v, %v", c.args, got, err)
		}
	}
}

func TestHelpOfEveryCommand(t *testing.T) {
	status, overview, _ := invoke(t, "help")
	if status != 0 {
		t.Fatalf("help gave status %d", status)
	}
	first, published := strings.Index(overview, `vkandinsky generate --prompt "a red circle moves to the right"`), strings.Index(overview, "--config")
	if first < 0 || published < first {
		t.Errorf("the overview does not begin with what works without a download:\n%s", overview)
	}
	if status, _, shown := invoke(t); status != exitBadInput || !strings.HasPrefix(shown, overview) {
		t.Errorf("nothing at all gives status %d and\n%s", status, shown)
	}
	for _, cmd := range commands() {
		if !strings.Contains(overview, cmd.summary) {
			t.Errorf("the overview lacks %s", cmd.name)
		}
		status, out, _ := invoke(t, cmd.name, "--help")
		if status != 0 || !strings.Contains(out, "usage: vkandinsky "+cmd.name) {
			t.Errorf("%s --help gave status %d and\n%s", cmd.name, status, out)
		}
		if cmd.name != "version" && !strings.Contains(out, "Examples:") {
			t.Errorf("%s --help shows no example", cmd.name)
		}
		if _, again, _ := invoke(t, "help", cmd.name); again != out {
			t.Errorf("help %s differs from %s --help", cmd.name, cmd.name)
		}
		if strings.Contains(out, "--fault") {
			t.Errorf("%s --help shows a developer's flag", cmd.name)
		}
	}
}

func TestParseFaults(t *testing.T) {
	faults, steps, err := parseFaults("alloc=3,submit=5,step=2,step=2")
	if err != nil || faults.AllocateAt != 3 || faults.SubmitAt != 5 || !slices.Equal(steps, []int{2, 2}) {
		t.Errorf("%+v, %v, %v", faults, steps, err)
	}
	for _, bad := range []string{"alloc", "alloc=0", "alloc=x", "read=1", "alloc=1,", "step=0"} {
		if _, _, err := parseFaults(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := oneLine("first\n  second\r\n\nthird"); got != "first; second; third" {
		t.Errorf("%q", got)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]string{8750 * time.Millisecond: "8.75 s", 12300 * time.Microsecond: "12.3 ms", 900 * time.Nanosecond: "1 µs"} {
		if got := seconds(d); got != want {
			t.Errorf("%v is written %q, want %q", d, got, want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{7: "7", 1000: "1,000", 19311325248: "19,311,325,248", 999999: "999,999"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is written %q", n, got)
		}
	}
}

func TestACancelledContextIsAnInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, err bytes.Buffer
	dir := t.TempDir()
	if status := run(ctx, []string{"synth", "--preset", "tiny", "--output", dir + "/m"}, &out, &err); status != exitInterrupted {
		t.Errorf("status %d, want %d; %s", status, exitInterrupted, err.String())
	}
}

func TestAPanicIsReportedAsABug(t *testing.T) {
	var out bytes.Buffer
	status := run(t.Context(), []string{"version"}, panicking{}, &out)
	if status != exitBug || !strings.HasPrefix(out.String(), "vkandinsky: internal error: no paper, please report\n") {
		t.Errorf("status %d, %q", status, out.String())
	}
}

type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("no paper") }
