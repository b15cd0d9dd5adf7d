package engine

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vkandinsky/vkandinsky/engine/vk"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/memory"
)

// stagingBytes is the size of the staging buffer of a synchronous copy.
const stagingBytes = 16 << 20

// Upload copies bytes to a tensor and waits. For weights in bulk there is package swap; this is for inputs.
func (d *Device) Upload(ctx context.Context, t Tensor, data []byte) error {
	if int64(len(data)) != t.Bytes() {
		panic(fmt.Sprintf("engine: upload of %d bytes to %v", len(data), t))
	}
	return d.stage(ctx, memory.Upload, t, func(host []byte, at int64) { copy(host, data[at:]) }, nil)
}

// Download copies a tensor's bytes to the host and waits for all work recorded before.
func (d *Device) Download(ctx context.Context, t Tensor) ([]byte, error) {
	out := make([]byte, t.Bytes())
	err := d.stage(ctx, memory.Readback, t, nil, func(host []byte, at int64) { copy(out[at:], host) })
	return out, err
}

// stage moves a tensor through a pinned buffer, piece by piece.
func (d *Device) stage(ctx context.Context, kind memory.Kind, t Tensor, put, get func(host []byte, at int64)) error {
	if t.Bytes() == 0 || d.Rehearsing() {
		return nil
	}
	size := min(t.Bytes(), stagingBytes)
	region, err := d.AllocRegion(kind, size, "staging")
	if err != nil {
		return err
	}
	defer d.FreeRegion(region)
	s := d.compute
	for at := int64(0); at < t.Bytes(); at += size {
		n := min(size, t.Bytes()-at)
		host := vk.Range{Buffer: region.Buffer, Offset: region.Offset, Size: n}
		dev := vk.Range{Buffer: t.Mem.Buffer, Offset: t.Mem.Offset + t.Offset + at, Size: n}
		if put != nil {
			put(region.Bytes()[:n], at)
			s.CopyRange(dev, host)
		} else {
			s.CopyRange(host, dev)
			s.hostRead()
		}
		if err := s.Finish(ctx); err != nil {
			return err
		}
		if get != nil {
			get(region.Bytes()[:n], at)
		}
	}
	return nil
}

// UploadF32 converts numbers to the tensor's type (rounding to nearest even) and uploads them.
func (d *Device) UploadF32(ctx context.Context, t Tensor, values []float32) error {
	return d.Upload(ctx, t, encode(t.DType, values))
}

// UploadU32 uploads integers to a U32 tensor.
func (d *Device) UploadU32(ctx context.Context, t Tensor, values []uint32) error {
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, v)
	}
	return d.Upload(ctx, t, data)
}

// DownloadF32 downloads a tensor of any float type as float32.
func (d *Device) DownloadF32(ctx context.Context, t Tensor) ([]float32, error) {
	data, err := d.Download(ctx, t)
	if err != nil {
		return nil, err
	}
	return decode(t.DType, data), nil
}

// DownloadU32 downloads a U32 tensor.
func (d *Device) DownloadU32(ctx context.Context, t Tensor) ([]uint32, error) {
	data, err := d.Download(ctx, t)
	if err != nil {
		return nil, err
	}
	out := make([]uint32, len(data)/4)
	for k := range out {
		out[k] = binary.LittleEndian.Uint32(data[4*k:])
	}
	return out, nil
}

func encode(dt DType, values []float32) []byte {
	data := make([]byte, dt.Size()*int64(len(values)))
	switch dt {
	case F32:
		numeric.BytesFromF32s(data, values)
	case BF16:
		numeric.BF16FromF32s(data, values)
	case F16:
		numeric.F16FromF32s(data, values)
	default:
		panic("engine: floats to " + dt.String())
	}
	return data
}

func decode(dt DType, data []byte) []float32 {
	out := make([]float32, int64(len(data))/dt.Size())
	switch dt {
	case F32:
		numeric.F32sFromBytes(out, data)
	case BF16:
		numeric.F32sFromBF16(out, data)
	case F16:
		numeric.F32sFromF16(out, data)
	default:
		panic("engine: floats from " + dt.String())
	}
	return out
}
