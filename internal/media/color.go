package media

import (
	"math"

	"github.com/go-gl/mathgl/mgl64"
)

// Luma weights of red and blue in BT.709 (ITU-R BT.709-6, 3.2).
const (
	bt709Red  = 0.2126
	bt709Blue = 0.0722
)

// rgbToYCbCr returns the matrix from R, G, B in 0…1 to luma in 0…1 and Cb, Cr in −½…½ for the luma weights of red
// and blue.
func rgbToYCbCr(red, blue float64) mgl64.Mat3 {
	green := 1 - red - blue
	luma := mgl64.Vec3{red, green, blue}
	return mgl64.Mat3FromRows(
		luma,
		mgl64.Vec3{0, 0, 1}.Sub(luma).Mul(0.5/(1-blue)),
		mgl64.Vec3{1, 0, 0}.Sub(luma).Mul(0.5/(1-red)),
	)
}

// fixedBits is the fraction of the products kept in yuvTables; eight weighted samples of them fit 32 bits.
const fixedBits = 16

// yuvTables holds the product of every 8-bit sample with every entry of the conversion to 8-bit video range
// (luma 16…235, chroma 16…240), [output Y, Cb, Cr][input R, G, B][sample].
type yuvTables [3][3][256]int32

func newYUVTables(m mgl64.Mat3) *yuvTables {
	var t yuvTables
	ranges := [3]float64{219, 224, 224}
	for out := range 3 {
		for in := range 3 {
			for v := range 256 {
				t[out][in][v] = int32(math.Round(m.At(out, in) * ranges[out] * float64(v) / 255 * (1 << fixedBits)))
			}
		}
	}
	return &t
}

// yuv420 writes a picture with even sides as planes Y, Cb, Cr, the latter two at half size. A chroma sample lies
// level with the left of its two columns, as H.264 assumes when a file says nothing, so three columns are averaged
// with weights 1, 2, 1, and two rows evenly.
func (t *yuvTables) yuv420(dst []uint8, im *Image) {
	h, w := im.Height, im.Width
	luma, cb := dst[:h*w], dst[h*w:h*w+h*w/4]
	cr := dst[h*w+h*w/4:]
	inParallel(h/2, func(half int) {
		for _, y := range [2]int{2 * half, 2*half + 1} {
			row := im.Pix[3*w*y : 3*w*(y+1)]
			for x := range w {
				p := row[3*x : 3*x+3]
				luma[w*y+x] = uint8(16 + t.sum(0, p, 1<<(fixedBits-1))>>fixedBits)
			}
		}
		upper, lower := im.Pix[3*w*2*half:], im.Pix[3*w*(2*half+1):]
		for j := range w / 2 {
			left, mid, right := 3*max(2*j-1, 0), 3*2*j, 3*(2*j+1)
			var b, r int32
			for _, row := range [2][]uint8{upper, lower} {
				b = t.sum(1, row[left:], b+2*t.sum(1, row[mid:], 0)+t.sum(1, row[right:], 0))
				r = t.sum(2, row[left:], r+2*t.sum(2, row[mid:], 0)+t.sum(2, row[right:], 0))
			}
			const shift = fixedBits + 3 // the weights add up to 8
			cb[w/2*half+j] = uint8(128 + (b+1<<(shift-1))>>shift)
			cr[w/2*half+j] = uint8(128 + (r+1<<(shift-1))>>shift)
		}
	})
}

func (t *yuvTables) sum(out int, p []uint8, add int32) int32 {
	return t[out][0][p[0]] + t[out][1][p[1]] + t[out][2][p[2]] + add
}
