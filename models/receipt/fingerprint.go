package receipt

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/vkandinsky/vkandinsky/models/weights"
)

// piece is how many bytes of every tensor a fingerprint covers.
const piece = 4096

// maxConfig bounds the config.json that is read; published ones have a few KiB.
const maxConfig = 1 << 20

// Fingerprint identifies the files of a network's weights without reading them whole. Of each file it covers the size, the
// header (name, type, shape and place of every tensor) and of every tensor up to 4096 bytes from its middle; of the first
// file also config.json, where configPath names one. It so tells apart models, versions of a model, conversions, and
// weights trained further, which change all tensors they change everywhere. It does not notice single numbers that differ
// elsewhere, and it is no protection against somebody who means to deceive. For the 77 GB of the largest published
// transformer it reads about 6 MB.
func Fingerprint(ctx context.Context, network string, files []*weights.File, configPath string) ([]Weights, error) {
	var out []Weights
	for _, f := range files {
		h := sha256.New()
		h.Write([]byte("vkandinsky weights 1\n"))
		if len(out) == 0 && configPath != "" {
			if err := addFile(h, configPath); err != nil {
				return nil, fmt.Errorf("fingerprint of %s: %w", network, err)
			}
		}
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(f.Size())))
		if err := f.WriteSample(untilDone{ctx, h}, piece); err != nil {
			return nil, fmt.Errorf("fingerprint of %s: %w", f.Path(), err)
		}
		out = append(out, Weights{Network: network, File: filepath.Base(f.Path()), Bytes: f.Size(), SHA256: hex.EncodeToString(h.Sum(nil))})
	}
	return out, nil
}

// untilDone is a writer that ends with its context.
type untilDone struct {
	ctx context.Context
	io.Writer
}

func (u untilDone) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.Writer.Write(p)
}

func addFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, io.LimitReader(f, maxConfig))
	return err
}

// Sum is the digest of bytes.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// SumF32 is the digest of numbers as fp32, little-endian.
func SumF32(values []float32) string {
	h := sha256.New()
	const most = 1 << 14
	buffer := make([]byte, 0, 4*most)
	for len(values) > 0 {
		n := min(most, len(values))
		buffer = buffer[:0]
		for _, v := range values[:n] {
			buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(v))
		}
		h.Write(buffer)
		values = values[n:]
	}
	return hex.EncodeToString(h.Sum(nil))
}

// SumFile is the digest of a whole file, and its size in bytes.
func SumFile(path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}
