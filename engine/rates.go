package engine

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/memory"
)

// Rates are how fast a device was found to be with one driver, kept beside its Tuning. They serve predictions: nothing
// that is computed depends on them.
type Rates struct {
	Bus     float64            `json:"bus_bytes_per_second,omitempty"` // from pinned memory to the device; 0: not measured
	Compute map[string]float64 `json:"flops,omitempty"`                // floating-point operations a second, by kind of work
}

// ratesVersion counts changes of the file's format or of what its numbers mean.
const ratesVersion = 1

// ratesFile is the format on disk.
type ratesFile struct {
	Version int    `json:"version"`
	Device  string `json:"device"` // for people
	Driver  string `json:"driver"`
	Rates
}

func (d *Device) ratesPath() string {
	info := d.Summary.Physical.Info
	return filepath.Join(d.opts.CacheDir, "rates-"+hex.EncodeToString(info.DeviceUUID[:])+"-"+hex.EncodeToString(info.DriverUUID[:])+".json")
}

// Rates returns what is known of the device's speed. A file that is missing, damaged, of another version or for another
// version of the driver is as none.
func (d *Device) Rates() Rates {
	if d.opts.CacheDir == "" {
		return Rates{}
	}
	data, err := os.ReadFile(d.ratesPath())
	if err != nil {
		return Rates{}
	}
	return parseRates(data, d.Summary.Physical.Info)
}

func parseRates(data []byte, info vk.DeviceInfo) Rates {
	var f ratesFile
	if json.Unmarshal(data, &f) != nil || f.Version != ratesVersion || f.Driver != tuningDriver(info) || f.Bus < 0 {
		return Rates{}
	}
	for _, rate := range f.Compute {
		if rate <= 0 {
			return Rates{}
		}
	}
	return f.Rates
}

// SaveRates keeps rates for later runs. Without a cache folder it does nothing.
func (d *Device) SaveRates(r Rates) error {
	if d.opts.CacheDir == "" {
		return nil
	}
	info := d.Summary.Physical.Info
	data, err := json.MarshalIndent(ratesFile{Version: ratesVersion, Device: info.Name, Driver: tuningDriver(info), Rates: r}, "", "  ")
	if err != nil {
		return err
	}
	if err := writeAtomic(d.ratesPath(), append(data, '\n')); err != nil {
		return fmt.Errorf("rates not saved: %w", err)
	}
	return nil
}

// What MeasureBus copies: so many times so many bytes, less where less is free.
const (
	busCopies = 4
	busBytes  = 64 << 20
)

// MeasureBus returns the bytes a second that the transfer queue copies from pinned memory to the device, the fastest of a
// few copies. It takes some hundredths of a second, most of it for pinning the memory, which is given back.
func (d *Device) MeasureBus(ctx context.Context) (float64, error) {
	size := int64(busBytes)
	for _, kind := range []memory.Kind{memory.Device, memory.Upload} {
		if budget, left := d.Mem.Budget(kind); budget > 0 {
			size = min(size, left/2)
		}
	}
	if m := d.caps.MaxAllocation; m > 0 {
		size = min(size, m)
	}
	if size &^= 15; size <= 0 {
		return 0, fmt.Errorf("no memory is free to measure the bus with")
	}
	from, err := d.AllocRegion(memory.Upload, size, "bus measurement")
	if err != nil {
		return 0, err
	}
	defer d.FreeRegion(from)
	to, err := d.AllocRegion(memory.Device, size, "bus measurement")
	if err != nil {
		return 0, err
	}
	defer d.FreeRegion(to)
	clear(from.Bytes())
	if err := d.transfer.Finish(ctx); err != nil {
		return 0, err
	}
	best := 0.0
	for range busCopies {
		start := time.Now()
		d.transfer.CopyRange(vk.Range{Buffer: to.Buffer, Offset: to.Offset, Size: size}, vk.Range{Buffer: from.Buffer, Offset: from.Offset, Size: size})
		if err := d.transfer.Finish(ctx); err != nil {
			return 0, err
		}
		best = max(best, float64(size)/max(time.Since(start).Seconds(), 1e-9))
	}
	return best, nil
}
