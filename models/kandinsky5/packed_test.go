package kandinsky5

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
)

// Operands are packed where there is memory for them anyway, so a device that packs them is planned like others, but for whole groups of rows.
func TestPackedOperandsTakeNoMemory(t *testing.T) {
	config, err := configs.Preset("config_5s_i2v_pro_20b")
	if err != nil {
		t.Fatal(err)
	}
	denoise := func(fragments bool, seconds, width int, o Options) int64 {
		t.Helper()
		p, err := PlanRun(config, nil, o, Request{Seconds: seconds, Width: width, Height: 512}, PlanLimits{Device: 24 << 30, Host: 64 << 30, Half: true, Fragments: fragments})
		if err != nil {
			t.Fatal(err)
		}
		return p.Stage(StageDenoise).Device
	}
	for _, o := range []Options{{BlocksInMemory: 2}, {BlocksInMemory: 2, HeadGroups: 2}} {
		if with, without := denoise(true, 5, 768, o), denoise(false, 5, 768, o); with != without {
			t.Errorf("%+v: 47,616 tokens take %d bytes on a device that packs operands, %d on others", o, with, without)
		}
		if more := denoise(true, 5, 784, o) - denoise(false, 5, 784, o); more < 0 || more > 4<<20 {
			t.Errorf("%+v: packing takes %d bytes", o, more)
		}
	}
}
