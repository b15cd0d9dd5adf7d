package media

import (
	"context"
	"fmt"
)

// VideoOptions says how an mp4 is made. The zero value is the reference's way.
type VideoOptions struct {
	FFmpeg     string                           // path of the ffmpeg program; empty: search PATH
	MotionJPEG bool                             // do without ffmpeg even when it is there
	CRF        int                              // H.264 quality, 1 (best) to 51; 0 means 5, what upstream uses
	Log        func(format string, args ...any) // told when something other than H.264 is written; nil: silent
}

func (o VideoOptions) logf(format string, args ...any) {
	if o.Log != nil {
		o.Log(format, args...)
	}
}

// WriteVideo writes a clip as the path's extension says:
//
//   - .mp4: H.264, yuv420p, tagged BT.709, through ffmpeg, as upstream does (pytorch/vision, io/video.py); without
//     an ffmpeg that has libx264, Motion-JPEG, and the log says so;
//   - .gif: 256 colours, repeating;
//   - .png: the first frame.
//
// fps is frames per second. A cancelled context stops the encoder and leaves no file.
func WriteVideo(ctx context.Context, path string, clip *Clip, fps int, opt VideoOptions) error {
	kind, err := kindOf(path)
	if err != nil {
		return err
	}
	if err := clip.check(); err != nil {
		return err
	}
	if fps < 1 || fps > 1000 {
		return fmt.Errorf("output %s: %d frames per second", path, fps)
	}
	switch kind {
	case kindGIF:
		return writeGIF(ctx, path, clip, fps)
	case kindPNG:
		if clip.Frames > 1 {
			opt.logf("%s holds the first of %d frames (use .mp4 or .gif for all)", path, clip.Frames)
		}
		return WritePNG(ctx, path, clip.Frame(0))
	}
	return writeMP4(ctx, path, clip, fps, opt)
}

func writeMP4(ctx context.Context, path string, clip *Clip, fps int, opt VideoOptions) error {
	const asMJPEG = "writing %s as Motion-JPEG (larger file, older codec): %s"
	if opt.MotionJPEG {
		opt.logf(asMJPEG, path, "asked for")
		return writeMJPEG(ctx, path, clip, fps)
	}
	if opt.CRF < 0 || opt.CRF > 51 {
		return fmt.Errorf("output %s: crf must be from 1 to 51, got %d", path, opt.CRF)
	}
	program, why := findFFmpeg(ctx, opt.FFmpeg)
	if program == "" {
		if opt.FFmpeg != "" {
			return fmt.Errorf("output %s: %s", path, why)
		}
		opt.logf(asMJPEG, path, why)
		return writeMJPEG(ctx, path, clip, fps)
	}
	if clip.Height%2 != 0 || clip.Width%2 != 0 {
		return fmt.Errorf("output %s: H.264 needs even sides, got %d x %d", path, clip.Width, clip.Height)
	}
	crf := opt.CRF
	if crf == 0 {
		crf = 5
	}
	return writeH264(ctx, program, path, clip, fps, crf)
}
