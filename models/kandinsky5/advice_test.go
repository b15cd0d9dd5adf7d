package kandinsky5

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/swap"
)

func TestErrorsAboutMemoryNameTheFlagThatHelps(t *testing.T) {
	device, host := &memory.BudgetError{Kind: memory.Device}, &memory.BudgetError{Kind: memory.Upload}
	for _, c := range []struct {
		stage   Stage
		err     error
		options Options
		want    string // "" means that nothing is added
	}{
		{StageLoad, device, Options{}, "--blocks-in-memory 6"},
		{StageLoad, device, Options{BlocksInMemory: 6}, "--blocks-in-memory to 3"},
		{StageDenoise, device, Options{BlocksInMemory: 1}, "smaller or shorter"},
		{StageText, device, Options{}, "--qwen-layers-in-memory 1"},
		{StageText, device, Options{QwenLayersInMemory: 1}, "--qwen-quantization"},
		{StageExpand, device, Options{QwenLayersInMemory: 1, QuantizeQwen: true}, "--vram-budget"},
		{StageDecode, device, Options{}, "smaller video"},
		{StageLoad, host, Options{BlocksInMemory: 6}, "--host-tier mapped"},
		{StageLoad, host, Options{BlocksInMemory: 6, HostTier: swap.Mapped}, "--ram-budget"},
		{StageDenoise, vk.ErrOutOfDeviceMemory, Options{BlocksInMemory: 4}, "--blocks-in-memory to 2"},
		{StageLoad, vk.ErrOutOfHostMemory, Options{BlocksInMemory: 4}, "--host-tier mapped"},
		{StageDenoise, vk.ErrDeviceLost, Options{}, ""},
		{StageDenoise, errDisk, Options{}, ""},
	} {
		err := advise(c.stage, fmt.Errorf("slot 3: %w", c.err), c.options)
		added := strings.TrimPrefix(err.Error(), "slot 3: "+c.err.Error())
		if !errors.Is(err, c.err) || c.want == "" && added != "" || !strings.Contains(added, c.want) {
			t.Errorf("%s, %+v: got %v", c.stage, c.options, err)
		}
	}
}

func TestABudgetThatIsTooSmallIsRefusedAndKept(t *testing.T) {
	c := smallCheckpoint(t)
	for _, limits := range []engine.Options{{DeviceBudget: 1 << 20}, {DeviceBudget: 1<<20 + 100<<10}, {HostBudget: 300 << 10}} {
		d := enginetest.OpenPlainWith(t, limits)
		_, err := attempt(t, t.Context(), d, c, Options{BlocksInMemory: 2}, nil)
		if !errors.Is(err, memory.ErrBudget) || !strings.Contains(err.Error(), "--") {
			t.Errorf("%+v: got %v", limits, err)
		}
		if peak := d.Mem.Peak(memory.Device); limits.DeviceBudget > 0 && peak > limits.DeviceBudget {
			t.Errorf("%d bytes of the budget of %d were used", peak, limits.DeviceBudget)
		}
		checkEmpty(t, d)
	}
}
