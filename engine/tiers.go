package engine

import "github.com/vkandinsky/vkandinsky/memory"

// Tiers lists the kernel tiers that the device can run, from the plainest up. It is empty for a device that cannot be
// used at all.
func (s DeviceSummary) Tiers() []Tier {
	var out []Tier
	for _, t := range allTiers() {
		if _, _, err := ChooseTier(s.Physical, t); err == nil && s.Physical.Features.Timeline {
			out = append(out, t)
		}
	}
	return out
}

// allTiers lists the tiers that ParseTier knows, but auto.
func allTiers() []Tier {
	var out []Tier
	for t := TierAuto + 1; t <= TierMatrix2; t++ {
		out = append(out, t)
	}
	return out
}

// TryMemory asks the driver for memory of one of the device's types (an index into Physical.Types) and gives it back. It
// is for looking at a driver: the memory is in no budget. The error is the driver's.
func (d *Device) TryMemory(memoryType int, size int64) error {
	buffer, err := d.vk.NewBuffer(memoryType, size, "trial of "+memory.Size(size))
	if err != nil {
		return err
	}
	buffer.Destroy()
	return nil
}

// FindDevice returns the device that Open would open with these options, without opening it. Unlike Open it also returns one
// that cannot be used, whose Problem says why. The function returned lets the device go.
func FindDevice(opts Options) (DeviceSummary, func(), error) {
	list, release, err := List()
	if err != nil {
		return DeviceSummary{}, nil, err
	}
	s, err := choose(list, opts.Device)
	if err != nil && s.Physical == nil {
		release()
		return s, nil, err
	}
	return s, release, nil
}
