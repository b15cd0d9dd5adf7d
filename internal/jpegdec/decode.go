// Package jpegdec decodes JPEG pictures to the samples that libjpeg decodes them to, bit for bit: Go's own decoder has another
// inverse cosine transform, which rounds differently, by up to three levels in colours. It knows what cameras and programs
// write: 8 bits, baseline and progressive, Huffman-coded, grey or YCbCr with the usual subsampling. Everything else is
// ErrUnsupported, for a caller to turn to another decoder (ITU-T T.81).
//
// Data are not trusted: an error is all that broken ones give. A picture takes memory by the size in its header, which the
// caller checks first.
package jpegdec

import (
	"encoding/binary"
	"errors"
	"image"
)

// ErrUnsupported is about pictures of kinds that are left to others.
var ErrUnsupported = errors.New("jpegdec: a kind of JPEG that is not decoded here")

// Markers.
const (
	mSOF0, mSOF1, mSOF2            = 0xc0, 0xc1, 0xc2
	mDHT, mSOI, mEOI, mSOS, mDQT   = 0xc4, 0xd8, 0xd9, 0xda, 0xdb
	mDRI, mAPP0, mAPP14, mRST0     = 0xdd, 0xe0, 0xee, 0xd0
	mRST7, mTEM, mDAC, mSOF15, mSO = 0xd7, 0x01, 0xcc, 0xcf, 0xc3
)

// component is one of the picture's planes.
type component struct {
	id, h, v, tq  int
	width, height int     // in blocks, as a scan of its own codes them
	stride, rows  int     // in blocks, as they are held: whole units of all components
	blocks        []int16 // progressive: coefficients in natural order, 64 for each block
	plane         []uint8 // samples, 8·stride in a row
	seen          bool    // a scan had it

	dc, ac *huffman // of the scan
	last   int32    // DC of the block before
}

// decoder is a picture at work.
type decoder struct {
	data        []byte
	at          int
	width       int
	height      int
	progressive bool
	components  []*component
	hMax, vMax  int
	quant       [4]*[64]uint16 // natural order
	tables      [2][4]*huffman // DC, AC
	interval    int            // units between restarts, 0: none
	jfif        bool
	adobe       int // transform of the Adobe marker, -1 without one
}

// Decode returns an *image.Gray, or an *image.YCbCr whose planes go on to whole blocks behind its rectangle.
func Decode(data []byte) (image.Image, error) {
	d := &decoder{data: data, adobe: -1}
	if len(data) < 2 || data[0] != 0xff || data[1] != mSOI {
		return nil, errData
	}
	d.at = 2
	for {
		marker, body, err := d.segment()
		if err != nil {
			return nil, err
		}
		if marker == mEOI {
			return d.image()
		}
		if err := d.take(marker, body); err != nil {
			return nil, err
		}
	}
}

// segment returns the next marker and what belongs to it.
func (d *decoder) segment() (marker byte, body []byte, err error) {
	for d.at < len(d.data) && d.data[d.at] != 0xff {
		d.at++ // what is left of a scan
	}
	for d.at < len(d.data) && d.data[d.at] == 0xff {
		d.at++
	}
	if d.at >= len(d.data) {
		return 0, nil, errData
	}
	marker = d.data[d.at]
	d.at++
	if marker == mEOI || marker == mTEM || marker == 0 || marker >= mRST0 && marker <= mRST7 {
		return marker, nil, nil
	}
	if d.at+2 > len(d.data) {
		return 0, nil, errData
	}
	n := int(binary.BigEndian.Uint16(d.data[d.at:]))
	if n < 2 || d.at+n > len(d.data) {
		return 0, nil, errData
	}
	body = d.data[d.at+2 : d.at+n]
	d.at += n
	return marker, body, nil
}

func (d *decoder) take(marker byte, body []byte) error {
	switch {
	case marker == mDQT:
		return d.readQuant(body)
	case marker == mDHT:
		return d.readHuffman(body)
	case marker == mDRI && len(body) >= 2:
		d.interval = int(binary.BigEndian.Uint16(body))
	case marker == mSOS:
		return d.scan(body)
	case marker == mSOF0 || marker == mSOF1 || marker == mSOF2:
		return d.frame(marker, body)
	case marker >= mSO && marker <= mSOF15 && marker != mDHT:
		return ErrUnsupported // lossless, hierarchical, arithmetic
	case marker == mAPP0 && len(body) >= 5 && string(body[:5]) == "JFIF\x00":
		d.jfif = true
	case marker == mAPP14 && len(body) >= 12 && string(body[:5]) == "Adobe":
		d.adobe = int(body[11])
	}
	return nil
}

func (d *decoder) readQuant(body []byte) error {
	for len(body) > 0 {
		wide, id := body[0]>>4, body[0]&15
		size := 64 << wide
		if wide > 1 || id > 3 || len(body) < 1+size {
			return errData
		}
		q := &[64]uint16{}
		for k := range 64 {
			if wide == 1 {
				q[natural(k)] = binary.BigEndian.Uint16(body[1+2*k:])
			} else {
				q[natural(k)] = uint16(body[1+k])
			}
		}
		d.quant[id] = q
		body = body[1+size:]
	}
	return nil
}

func (d *decoder) readHuffman(body []byte) error {
	for len(body) > 0 {
		if len(body) < 17 || body[0]>>4 > 1 || body[0]&15 > 3 {
			return errData
		}
		counts := [16]uint8(body[1:17])
		n := 0
		for _, c := range counts {
			n += int(c)
		}
		if n > 256 || len(body) < 17+n {
			return errData
		}
		h, err := newHuffman(counts, body[17:17+n])
		if err != nil {
			return err
		}
		d.tables[body[0]>>4][body[0]&15] = h
		body = body[17+n:]
	}
	return nil
}

// frame reads the picture's header and takes its memory.
func (d *decoder) frame(marker byte, body []byte) error {
	if len(body) < 6 || d.components != nil {
		return errData
	}
	count := int(body[5])
	if body[0] != 8 || count != 1 && count != 3 {
		return ErrUnsupported
	}
	if len(body) < 6+3*count {
		return errData
	}
	d.progressive = marker == mSOF2
	d.height, d.width = int(binary.BigEndian.Uint16(body[1:])), int(binary.BigEndian.Uint16(body[3:]))
	if d.height == 0 || d.width == 0 {
		return ErrUnsupported
	}
	for k := range count {
		b := body[6+3*k:]
		c := &component{id: int(b[0]), h: int(b[1] >> 4), v: int(b[1] & 15), tq: int(b[2])}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.tq > 3 {
			return errData
		}
		if count == 1 {
			c.h, c.v = 1, 1 // a scan of one component has units of one block
		}
		d.components = append(d.components, c)
		d.hMax, d.vMax = max(d.hMax, c.h), max(d.vMax, c.v)
	}
	if _, err := d.ratio(); err != nil {
		return err
	}
	for _, c := range d.components {
		c.width = ceil(ceil(d.width*c.h, d.hMax), 8)
		c.height = ceil(ceil(d.height*c.v, d.vMax), 8)
		c.stride, c.rows = c.h*ceil(d.width, 8*d.hMax), c.v*ceil(d.height, 8*d.vMax)
		if d.progressive {
			c.blocks = make([]int16, 64*c.stride*c.rows)
		}
		c.plane = make([]uint8, 64*c.stride*c.rows)
	}
	return nil
}

func ceil(a, b int) int { return (a + b - 1) / b }

// ratio returns the subsampling of a picture in colours.
func (d *decoder) ratio() (image.YCbCrSubsampleRatio, error) {
	if len(d.components) == 1 {
		return 0, nil
	}
	y, cb, cr := d.components[0], d.components[1], d.components[2]
	if cb.h != 1 || cb.v != 1 || cr.h != 1 || cr.v != 1 {
		return 0, ErrUnsupported
	}
	switch [2]int{y.h, y.v} {
	case [2]int{1, 1}:
		return image.YCbCrSubsampleRatio444, nil
	case [2]int{2, 1}:
		return image.YCbCrSubsampleRatio422, nil
	case [2]int{2, 2}:
		return image.YCbCrSubsampleRatio420, nil
	case [2]int{1, 2}:
		return image.YCbCrSubsampleRatio440, nil
	}
	return 0, ErrUnsupported
}

// ycc says whether three components are YCbCr, by libjpeg's rules (jdapimin.c, default_decompress_parms).
func (d *decoder) ycc() bool {
	switch {
	case d.jfif:
		return true
	case d.adobe >= 0:
		return d.adobe != 0
	}
	return [3]int{d.components[0].id, d.components[1].id, d.components[2].id} != [3]int{'R', 'G', 'B'}
}

// image ends the work.
func (d *decoder) image() (image.Image, error) {
	if d.components == nil {
		return nil, errData
	}
	for _, c := range d.components {
		if !c.seen {
			return nil, errData
		}
		if d.progressive {
			if err := d.transform(c); err != nil {
				return nil, err
			}
		}
	}
	area, first := image.Rect(0, 0, d.width, d.height), d.components[0]
	if len(d.components) == 1 {
		return &image.Gray{Pix: first.plane, Stride: 8 * first.stride, Rect: area}, nil
	}
	ratio, err := d.ratio()
	if err != nil || !d.ycc() {
		return nil, ErrUnsupported
	}
	cb, cr := d.components[1], d.components[2]
	return &image.YCbCr{Y: first.plane, Cb: cb.plane, Cr: cr.plane, YStride: 8 * first.stride, CStride: 8 * cb.stride, SubsampleRatio: ratio, Rect: area}, nil
}

// transform makes the samples of a progressive picture's component.
func (d *decoder) transform(c *component) error {
	q := d.quant[c.tq]
	if q == nil {
		return errData
	}
	for k := range c.stride * c.rows {
		var block [64]int32
		for i, v := range c.blocks[64*k : 64*k+64] {
			block[i] = int32(v) * int32(q[i])
		}
		c.put(k%c.stride, k/c.stride, &block)
	}
	return nil
}

// put makes the samples of the block at column x and row y.
func (c *component) put(x, y int, block *[64]int32) {
	idct(c.plane[64*y*c.stride+8*x:], 8*c.stride, block)
}

// natural is the place in natural order of coefficient k in zigzag order.
func natural(k int) int { return int(zigzag[k]) }

var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}
