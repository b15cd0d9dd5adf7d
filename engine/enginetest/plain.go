package enginetest

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
)

// OpenPlain opens the default device for tests of what is above the kernels.
func OpenPlain(tb testing.TB) *engine.Device { return OpenPlainWith(tb, engine.Options{}) }

// OpenPlainWith does so with options. On a driver for the CPU that multiplies in fp16 at best it takes the kernels of tier
// base: fp16 is emulated there, compiles in several times the time and runs no faster. Tests of the kernels themselves, golden
// cases (models/verify) and the program's own runs prove the tiers; where the driver has matrices, those are taken here too.
func OpenPlainWith(tb testing.TB, opts engine.Options) *engine.Device {
	tb.Helper()
	s, release, err := engine.FindDevice(opts)
	if err != nil {
		tb.Fatalf("find device: %v", err)
	}
	if opts.Tier == engine.TierAuto && s.Tier == engine.TierFP16 && s.Physical.Info.Kind == "cpu" {
		opts.Tier = engine.TierBase
	}
	release()
	return OpenWith(tb, opts)
}
