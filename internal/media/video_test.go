package media

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patches are colours that a wrong matrix or range changes visibly.
var patches = [][3]uint8{{255, 0, 0}, {0, 255, 0}, {0, 0, 255}, {255, 255, 255}, {0, 0, 0}, {128, 128, 128}, {200, 120, 40}, {20, 180, 220}}

// patchClip shows the colours as tiles of 16×16 pixels that move one tile a frame.
func patchClip(frames int) *Clip {
	c := NewClip(frames, 32, 64)
	for f := range frames {
		im := c.Frame(f)
		for y := range im.Height {
			for x := range im.Width {
				p := patches[(y/16*4+x/16+f)%len(patches)]
				copy(im.Pix[3*(im.Width*y+x):], p[:])
			}
		}
	}
	return c
}

// noiseClip is hard to compress, so that an encoder has something to do.
func noiseClip(frames, height, width int) *Clip {
	c := NewClip(frames, height, width)
	seed := uint32(1)
	for i := range c.Pix {
		seed = seed*1664525 + 1013904223
		c.Pix[i] = uint8(seed >> 24)
	}
	return c
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed for this test: %v", name, err)
	}
	return path
}

type stream struct {
	Codec     string `json:"codec_name"`
	Tag       string `json:"codec_tag_string"`
	Width     int    `json:"width"`
	Height    int    `json:"height"`
	PixFmt    string `json:"pix_fmt"`
	Range     string `json:"color_range"`
	Space     string `json:"color_space"`
	Transfer  string `json:"color_transfer"`
	Primaries string `json:"color_primaries"`
	Chroma    string `json:"chroma_location"`
	Rate      string `json:"r_frame_rate"`
	AvgRate   string `json:"avg_frame_rate"`
	Duration  string `json:"duration"`
	Frames    string `json:"nb_read_frames"`
}

func probe(t *testing.T, path string) stream {
	t.Helper()
	out, err := exec.Command(tool(t, "ffprobe"), "-v", "error", "-count_frames", "-show_streams", "-of", "json", path).CombinedOutput()
	if err != nil {
		t.Fatalf("ffprobe: %v: %s", err, out)
	}
	var r struct{ Streams []stream }
	if err := json.Unmarshal(out, &r); err != nil || len(r.Streams) != 1 {
		t.Fatalf("ffprobe: %v: %s", err, out)
	}
	return r.Streams[0]
}

// decodeBack returns the frames ffmpeg sees, converted to RGB with the given input matrix and range.
func decodeBack(t *testing.T, path, matrix, colourRange string, like *Clip) *Clip {
	t.Helper()
	cmd := exec.Command(tool(t, "ffmpeg"), "-v", "error", "-i", path,
		"-vf", fmt.Sprintf("scale=in_color_matrix=%s:in_range=%s:out_range=full:flags=accurate_rnd+full_chroma_int+bicubic", matrix, colourRange),
		"-pix_fmt", "rgb24", "-f", "rawvideo", "-")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("ffmpeg: %v: %s", err, stderr.String())
	}
	if len(out) != len(like.Pix) {
		t.Fatalf("%d bytes decoded, want %d", len(out), len(like.Pix))
	}
	return &Clip{like.Frames, like.Height, like.Width, out}
}

// checkPatches compares the middle of every tile, away from the neighbours' chroma.
func checkPatches(t *testing.T, got, want *Clip, tolerance int) {
	t.Helper()
	for f := range want.Frames {
		g, w := got.Frame(f), want.Frame(f)
		for y := 8; y < w.Height; y += 16 {
			for x := 8; x < w.Width; x += 16 {
				i := 3 * (w.Width*y + x)
				for c := range 3 {
					if d := int(g.Pix[i+c]) - int(w.Pix[i+c]); d > tolerance || d < -tolerance {
						t.Fatalf("frame %d, pixel %d, %d: got %v, want %v", f, y, x, g.Pix[i:i+3], w.Pix[i:i+3])
					}
				}
			}
		}
	}
}

// onlyFiles fails when a folder holds anything but the named files.
func onlyFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("folder holds %q, want %q", got, names)
	}
}

func TestH264HasTheRightColoursAndTags(t *testing.T) {
	clip := patchClip(25)
	dir := t.TempDir()
	path := filepath.Join(dir, "видео one.mp4")
	var logged []string
	opt := VideoOptions{Log: func(f string, a ...any) { logged = append(logged, fmt.Sprintf(f, a...)) }}
	if err := WriteVideo(t.Context(), path, clip, 24, opt); err != nil {
		t.Fatal(err)
	}
	if len(logged) != 0 {
		t.Errorf("logged %q", logged)
	}
	s := probe(t, path)
	want := stream{"h264", "avc1", 64, 32, "yuv420p", "tv", "bt709", "bt709", "bt709", "left", "24/1", "24/1", s.Duration, "25"}
	if s != want {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	checkPatches(t, decodeBack(t, path, "bt709", "tv", clip), clip, 3)
	onlyFiles(t, dir, "видео one.mp4")
}

func TestFFmpegGetsFramesItNeedNotConvert(t *testing.T) {
	// A lossless encode must give our own planes back, byte for byte.
	clip := noiseClip(3, 16, 32)
	path := filepath.Join(t.TempDir(), "x.mp4")
	args := h264Args(path, clip, 24, 0)
	if err := runFFmpeg(t.Context(), tool(t, "ffmpeg"), args, clip); err != nil {
		t.Fatal(err)
	}
	got, err := exec.Command(tool(t, "ffmpeg"), "-v", "error", "-i", path, "-f", "rawvideo", "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if err := feed(t.Context(), &want, clip); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Error("the planes were changed on the way")
	}
}

func TestMotionJPEGIsReadableAndSaidPlainly(t *testing.T) {
	clip := patchClip(25)
	dir := t.TempDir()
	path := filepath.Join(dir, "x.MP4")
	var logged string
	opt := VideoOptions{Log: func(f string, a ...any) { logged += fmt.Sprintf(f, a...) }}
	withPath := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir()) // no ffmpeg here
	if err := WriteVideo(t.Context(), path, clip, 24, opt); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", withPath)
	if !strings.Contains(logged, "Motion-JPEG") || !strings.Contains(logged, "ffmpeg") {
		t.Errorf("logged %q", logged)
	}
	s := probe(t, path)
	if s.Codec != "mjpeg" || s.Tag != "mp4v" || s.Width != 64 || s.Height != 32 || s.Rate != "24/1" || s.AvgRate != "24/1" || s.Frames != "25" || !strings.HasPrefix(s.Duration, "1.0416") {
		t.Errorf("got %+v", s)
	}
	checkPatches(t, decodeBack(t, path, "bt601", "full", clip), clip, 4)
	onlyFiles(t, dir, "x.MP4")
}

func TestAnFFmpegThatFailsIsQuoted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for ffmpeg is a shell script")
	}
	dir := t.TempDir()
	fake := filepath.Join(t.TempDir(), "ffmpeg")
	script := "#!/bin/sh\ncase \"$*\" in *-encoders*) echo ' V..... libx264 x'; exit 0;; esac\necho first >&2; echo the disk is on fire >&2; exit 3\n"
	if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	err := WriteVideo(t.Context(), filepath.Join(dir, "x.mp4"), noiseClip(40, 256, 256), 24, VideoOptions{FFmpeg: fake})
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	onlyFiles(t, dir)
}

func TestAnFFmpegWithoutX264IsNotUsed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in for ffmpeg is a shell script")
	}
	fake := filepath.Join(t.TempDir(), "ffmpeg")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\necho ' V..... mpeg4 x'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	err := WriteVideo(t.Context(), filepath.Join(t.TempDir(), "x.mp4"), patchClip(2), 24, VideoOptions{FFmpeg: fake})
	if err == nil || !strings.Contains(err.Error(), "without libx264") {
		t.Errorf("named on purpose it should be refused, got %v", err)
	}
}

func TestCancellingLeavesNothing(t *testing.T) {
	for _, name := range []string{"x.mp4", "x.gif", "x.png"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := WriteVideo(ctx, filepath.Join(dir, name), patchClip(3), 24, VideoOptions{})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			onlyFiles(t, dir)
		})
	}
	t.Run("Motion-JPEG", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := WriteVideo(ctx, filepath.Join(dir, "x.mp4"), patchClip(3), 24, VideoOptions{MotionJPEG: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		onlyFiles(t, dir)
	})
	t.Run("a running ffmpeg is killed", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		// An encoder that would never come to its end, so that no machine is too slow to interrupt it.
		bin := t.TempDir()
		fake, begun := filepath.Join(bin, "ffmpeg"), filepath.Join(bin, "begun")
		script := "#!/bin/sh\ncase \"$*\" in *-encoders*) echo ' V..... libx264 x'; exit;; esac\n" +
			"for last; do :; done\necho half >\"$last\"\n: >'" + begun + "'\nexec sleep 100000\n"
		if err := os.WriteFile(fake, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, err := os.Stat(begun); err == nil {
					cancel()
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		err := WriteVideo(ctx, filepath.Join(dir, "x.mp4"), noiseClip(30, 256, 256), 24, VideoOptions{FFmpeg: fake})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		onlyFiles(t, dir)
	})
	t.Run("frames", func(t *testing.T) {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := WriteFrames(ctx, filepath.Join(dir, "frames"), patchClip(3)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		onlyFiles(t, dir)
	})
}
