package media

import (
	"fmt"
	"image"
)

// yccToRGB converts a YCbCr picture with the arithmetic of the format's reference library, chroma interpolated as
// it does by default; the standard library's conversion repeats chroma samples and, for WebP, takes the values for
// full range.
func yccToRGB(dst *Image, m *image.YCbCr, format string) error {
	if m.Rect.Min != (image.Point{}) {
		return fmt.Errorf("picture that does not begin at 0, 0")
	}
	if format == "WebP" {
		return webpToRGB(dst, m)
	}
	jpegToRGB(dst, m)
	return nil
}

// jpegToRGB follows libjpeg-turbo (libjpeg-turbo/libjpeg-turbo, jdcolor.c and jdsample.c).
func jpegToRGB(dst *Image, m *image.YCbCr) {
	cb, cr := make([]uint8, dst.Width+1), make([]uint8, dst.Width+1)
	up := newUpsampler(m)
	rows(dst, func(y int, out []uint8) {
		up.row(cb, m.Cb, y)
		up.row(cr, m.Cr, y)
		luma := m.Y[y*m.YStride:]
		for x := range dst.Width {
			jpegPixel(out[3*x:3*x+3], int32(luma[x]), int32(cb[x])-128, int32(cr[x])-128)
		}
	})
}

// jpegPixel uses 16-bit fixed-point factors 1.402, 0.34414, 0.71414 and 1.772, rounded half up.
func jpegPixel(dst []uint8, y, cb, cr int32) {
	const half = 1 << 15
	dst[0] = clamp8(y + (91881*cr+half)>>16)
	dst[1] = clamp8(y + (-22554*cb-46802*cr+half)>>16)
	dst[2] = clamp8(y + (116130*cb+half)>>16)
}

func clamp8(v int32) uint8 { return uint8(min(max(v, 0), 255)) }

// upsampler makes full-width chroma rows. Factors of two are interpolated with the triangle filter 3/4, 1/4;
// others are repeated.
type upsampler struct {
	m             *image.YCbCr
	fx, fy        int // subsampling factors
	width, height int // real chroma size, without the padding to whole blocks
	smooth        bool
	sum           []int32 // 3·near + far row when fy is 2
}

func newUpsampler(m *image.YCbCr) *upsampler {
	u := &upsampler{m: m, fx: 1, fy: 1}
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		u.fx = 2
	case image.YCbCrSubsampleRatio420:
		u.fx, u.fy = 2, 2
	case image.YCbCrSubsampleRatio440:
		u.fy = 2
	case image.YCbCrSubsampleRatio411:
		u.fx = 4
	case image.YCbCrSubsampleRatio410:
		u.fx, u.fy = 4, 2
	}
	u.width = (m.Rect.Dx() + u.fx - 1) / u.fx
	u.height = (m.Rect.Dy() + u.fy - 1) / u.fy
	u.smooth = u.fx == 1 || u.fx == 2 && u.width > 2
	u.sum = make([]int32, u.width)
	return u
}

// row writes chroma of picture row y; dst may take one sample more than the picture is wide.
func (u *upsampler) row(dst, plane []uint8, y int) {
	near := plane[y/u.fy*u.m.CStride:][:u.width]
	switch {
	case !u.smooth:
		for x := range u.m.Rect.Dx() {
			dst[x] = near[x/u.fx]
		}
	case u.fy == 1 && u.fx == 1:
		copy(dst, near)
	case u.fy == 1:
		widen1(dst, near)
	default:
		other := y/2 - 1
		if y%2 == 1 {
			other = y/2 + 1
		}
		other = min(max(other, 0), u.height-1)
		far := plane[other*u.m.CStride:][:u.width]
		for i := range u.sum {
			u.sum[i] = 3*int32(near[i]) + int32(far[i])
		}
		if u.fx == 2 {
			widen2(dst, u.sum)
			return
		}
		bias := int32(1 + y%2)
		for i, s := range u.sum {
			dst[i] = uint8((s + bias) >> 2)
		}
	}
}

// widen1 doubles a row of at least 3 samples.
func widen1(dst, in []uint8) {
	last := len(in) - 1
	put := func(x int, v int32) {
		if x < len(dst) {
			dst[x] = uint8(v)
		}
	}
	for i := range in {
		c := int32(in[i])
		left, right := c, c
		if i > 0 {
			left = (3*c + int32(in[i-1]) + 1) >> 2
		}
		if i < last {
			right = (3*c + int32(in[i+1]) + 2) >> 2
		}
		put(2*i, left)
		put(2*i+1, right)
	}
}

// widen2 doubles a row of sums that carry a factor of 4.
func widen2(dst []uint8, in []int32) {
	last := len(in) - 1
	put := func(x int, v int32) {
		if x < len(dst) {
			dst[x] = uint8(v)
		}
	}
	for i, c := range in {
		left, right := (4*c+8)>>4, (4*c+7)>>4
		if i > 0 {
			left = (3*c + in[i-1] + 8) >> 4
		}
		if i < last {
			right = (3*c + in[i+1] + 7) >> 4
		}
		put(2*i, left)
		put(2*i+1, right)
	}
}

// webpToRGB follows libwebp (webmproject/libwebp, src/dsp/yuv.h and upsampling.c): video-range BT.601 in 14-bit
// fixed point, chroma interpolated with weights 9, 3, 3, 1.
func webpToRGB(dst *Image, m *image.YCbCr) error {
	if m.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return fmt.Errorf("chroma subsampling %v", m.SubsampleRatio)
	}
	chromaRows := (dst.Height + 1) / 2
	u, v := make([]uint8, dst.Width+1), make([]uint8, dst.Width+1)
	rows(dst, func(y int, out []uint8) {
		near, far := y/2, (y-1)/2
		if y%2 == 1 {
			far = y/2 + 1
		}
		far = min(far, chromaRows-1)
		webpChroma(u, m.Cb, m.CStride, near, far, dst.Width)
		webpChroma(v, m.Cr, m.CStride, near, far, dst.Width)
		luma := m.Y[y*m.YStride:]
		for x := range dst.Width {
			webpPixel(out[3*x:3*x+3], int32(luma[x]), int32(u[x]), int32(v[x]))
		}
	})
	return nil
}

// webpChroma interpolates one chroma row from the row it lies in and the next nearest one.
func webpChroma(dst, plane []uint8, stride, nearRow, farRow, width int) {
	near, far := plane[nearRow*stride:], plane[farRow*stride:]
	a, b := int32(near[0]), int32(far[0])
	dst[0] = uint8((3*a + b + 2) >> 2)
	pairs := (width - 1) / 2
	for x := 1; x <= pairs; x++ {
		c, d := int32(near[x]), int32(far[x])
		sum := a + b + c + d + 8
		// Left of the middle a weighs 9, right of it c.
		dst[2*x-1] = uint8(((sum+2*(b+c))>>3 + a) >> 1)
		dst[2*x] = uint8(((sum+2*(a+d))>>3 + c) >> 1)
		a, b = c, d
	}
	if width%2 == 0 {
		dst[width-1] = uint8((3*a + b + 2) >> 2)
	}
}

func webpPixel(dst []uint8, y, u, v int32) {
	y = y * 19077 >> 8
	dst[0] = webpClip(y + v*26149>>8 - 14234)
	dst[1] = webpClip(y - u*6419>>8 - v*13320>>8 + 8708)
	dst[2] = webpClip(y + u*33050>>8 - 17685)
}

func webpClip(v int32) uint8 { return clamp8(v >> 6) }
