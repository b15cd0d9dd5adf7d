package media

import "fmt"

// Image is an RGB picture, 8 bits a channel, rows from the top, [Height, Width, 3].
type Image struct {
	Height, Width int
	Pix           []uint8
}

// NewImage returns a black picture. It panics when a side is not positive: callers check sizes at the boundary.
func NewImage(height, width int) *Image {
	if height < 1 || width < 1 {
		panic(fmt.Sprintf("media: image of %d rows and %d columns", height, width))
	}
	return &Image{Height: height, Width: width, Pix: make([]uint8, 3*height*width)}
}

// Clip is a row of frames, [Frames, Height, Width, 3], 8 bits a channel.
type Clip struct {
	Frames, Height, Width int
	Pix                   []uint8
}

// NewClip returns black frames.
func NewClip(frames, height, width int) *Clip {
	if frames < 1 || height < 1 || width < 1 {
		panic(fmt.Sprintf("media: clip of %d frames, %d rows and %d columns", frames, height, width))
	}
	return &Clip{Frames: frames, Height: height, Width: width, Pix: make([]uint8, 3*frames*height*width)}
}

// Frame returns frame i as a view: the picture shares the clip's bytes.
func (c *Clip) Frame(i int) *Image {
	n := 3 * c.Height * c.Width
	return &Image{Height: c.Height, Width: c.Width, Pix: c.Pix[i*n : (i+1)*n : (i+1)*n]}
}

// check reports a clip whose sizes and bytes disagree.
func (c *Clip) check() error {
	if c == nil || c.Frames < 1 || c.Height < 1 || c.Width < 1 || len(c.Pix) != 3*c.Frames*c.Height*c.Width {
		return fmt.Errorf("media: a clip needs at least one frame and 3 bytes a pixel")
	}
	return nil
}
