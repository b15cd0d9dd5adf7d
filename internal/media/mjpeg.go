package media

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"runtime"

	"github.com/Eyevinn/mp4ff/mp4"
)

const (
	jpegQuality = 95
	// ticksPerFrame is how finely an mp4 divides a frame's duration, as ffmpeg does.
	ticksPerFrame = 512
	// objectTypeJPEG marks Motion-JPEG in an MPEG-4 sample entry (ISO/IEC 14496-1, table 5).
	objectTypeJPEG = 0x6c
)

// writeMJPEG writes an mp4 whose frames are JPEG pictures, without any other program.
func writeMJPEG(ctx context.Context, path string, clip *Clip, fps int) error {
	if clip.Width > 65535 || clip.Height > 65535 {
		return fmt.Errorf("output %s: %d x %d pixels do not fit Motion-JPEG", path, clip.Width, clip.Height)
	}
	out, err := createOutput(path)
	if err != nil {
		return err
	}
	defer out.discard()
	if err := muxJPEG(ctx, out, clip, fps); err != nil {
		return fmt.Errorf("output %s: %w", path, err)
	}
	return out.commit()
}

// muxJPEG writes ftyp, mdat and moov. The size of mdat is filled in when it is known.
func muxJPEG(ctx context.Context, w io.WriteSeeker, clip *Clip, fps int) error {
	ftyp := mp4.NewFtyp("isom", 0x200, []string{"isom", "iso2", "mp41"})
	if err := ftyp.Encode(w); err != nil {
		return err
	}
	begin := int64(ftyp.Size())
	const headerSize = 16 // with a 64-bit size
	if _, err := w.Write(make([]byte, headerSize)); err != nil {
		return err
	}
	sizes, err := writeJPEGs(ctx, w, clip)
	if err != nil {
		return err
	}
	total := uint64(headerSize)
	for _, n := range sizes {
		total += uint64(n)
	}
	header := binary.BigEndian.AppendUint64([]byte("\x00\x00\x00\x01mdat"), total)
	if _, err := w.Seek(begin, io.SeekStart); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	if _, err := w.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	moov, err := jpegMovie(clip, fps, sizes, uint64(begin)+headerSize)
	if err != nil {
		return err
	}
	return moov.Encode(w)
}

// writeJPEGs encodes as many frames at a time as there are cores and returns the sizes in bytes.
func writeJPEGs(ctx context.Context, w io.Writer, clip *Clip) ([]uint32, error) {
	batch := make([]bytes.Buffer, runtime.GOMAXPROCS(0))
	errs := make([]error, len(batch))
	var sizes []uint32
	for first := 0; first < clip.Frames; first += len(batch) {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("stopped: %w", context.Cause(ctx))
		}
		n := min(len(batch), clip.Frames-first)
		inParallel(n, func(i int) {
			batch[i].Reset()
			errs[i] = jpeg.Encode(&batch[i], clip.Frame(first+i).opaque(), &jpeg.Options{Quality: jpegQuality})
		})
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		for i := range n {
			if _, err := w.Write(batch[i].Bytes()); err != nil {
				return nil, err
			}
			sizes = append(sizes, uint32(batch[i].Len()))
		}
	}
	return sizes, nil
}

// opaque returns the picture in the form the standard library's encoders are fastest with.
func (im *Image) opaque() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, im.Width, im.Height))
	for i, j := 0, 0; i < len(im.Pix); i, j = i+3, j+4 {
		m.Pix[j], m.Pix[j+1], m.Pix[j+2], m.Pix[j+3] = im.Pix[i], im.Pix[i+1], im.Pix[i+2], 255
	}
	return m
}

// jpegMovie builds the index: one track whose frames lie behind each other from the given file offset.
func jpegMovie(clip *Clip, fps int, sizes []uint32, offset uint64) (*mp4.MoovBox, error) {
	rate, n := uint32(fps), uint32(len(sizes))
	moov := mp4.NewMoovBox()
	mvhd := mp4.CreateMvhd()
	mvhd.Timescale, mvhd.Duration = rate*ticksPerFrame, uint64(n)*ticksPerFrame
	moov.AddChild(mvhd)
	trak := mp4.NewTrakBox()
	moov.AddChild(trak)
	tkhd := mp4.CreateTkhd()
	tkhd.Duration = mvhd.Duration
	tkhd.Width, tkhd.Height = mp4.Fixed32(clip.Width<<16), mp4.Fixed32(clip.Height<<16)
	trak.AddChild(tkhd)
	mdia := mp4.NewMdiaBox()
	trak.AddChild(mdia)
	mdhd := &mp4.MdhdBox{Timescale: mvhd.Timescale, Duration: mvhd.Duration}
	mdhd.SetLanguage("und")
	mdia.AddChild(mdhd)
	hdlr, err := mp4.CreateHdlr("vide")
	if err != nil {
		return nil, err
	}
	mdia.AddChild(hdlr)
	minf := mp4.NewMinfBox()
	mdia.AddChild(minf)
	minf.AddChild(mp4.CreateVmhd())
	dinf := &mp4.DinfBox{}
	dinf.AddChild(mp4.CreateDref())
	minf.AddChild(dinf)
	minf.AddChild(jpegSamples(clip, sizes, offset))
	return moov, nil
}

func jpegSamples(clip *Clip, sizes []uint32, offset uint64) *mp4.StblBox {
	n := uint32(len(sizes))
	esds := &mp4.EsdsBox{ESDescriptor: mp4.ESDescriptor{
		EsID: 1,
		DecConfigDescriptor: &mp4.DecoderConfigDescriptor{
			ObjectType: objectTypeJPEG,
			StreamType: 0x11, // visual
		},
		SLConfigDescriptor: &mp4.SLConfigDescriptor{ConfigValue: 2}, // fixed by the file format
	}}
	entry := mp4.CreateVisualSampleEntryBox("mp4v", uint16(clip.Width), uint16(clip.Height), esds)
	entry.CompressorName = "Motion-JPEG"
	stsd := mp4.NewStsdBox()
	stsd.AddChild(entry)
	stsc := &mp4.StscBox{Entries: []mp4.StscEntry{{FirstChunk: 1, SamplesPerChunk: n, FirstSampleNr: 1}}}
	stsc.SetSingleSampleDescriptionID(1)
	stbl := mp4.NewStblBox()
	stbl.AddChild(stsd)
	stbl.AddChild(&mp4.SttsBox{SampleCount: []uint32{n}, SampleTimeDelta: []uint32{ticksPerFrame}})
	stbl.AddChild(stsc)
	stbl.AddChild(&mp4.StszBox{SampleNumber: n, SampleSize: sizes})
	stbl.AddChild(&mp4.StcoBox{ChunkOffset: []uint32{uint32(offset)}}) // one chunk, right behind ftyp
	return stbl
}
