package convert

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"time"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// journal says how far a conversion came that can be resumed. It lies beside the unfinished file and is written when the data
// that it speaks of lies on the disk.
type journal struct {
	Type    Type                  `json:"type"`
	Sources []source              `json:"sources"`
	Tensors int                   `json:"tensors"` // whole, in the order of the file
	Sum     []byte                `json:"sha256_state"`
	Lost    map[string]*deviation `json:"lost"`
}

// source is a file that is converted: another one of this name is another conversion.
type source struct {
	Path     string    `json:"path"`
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
}

// keeper writes journals.
type keeper struct {
	path  string
	next  journal // as of the last whole tensor
	sum   hash.Hash
	saved int64 // bytes of data when it was written
}

// saveEvery is how much data is written between two journals.
const saveEvery = 1 << 30

const (
	partialSuffix = ".partial"
	journalSuffix = ".partial.json"
)

// sources lists the files of a checkpoint.
func sources(ckpt *weights.Checkpoint) ([]source, error) {
	var list []source
	for _, f := range ckpt.Files() {
		path, err := filepath.Abs(f.Path())
		if err != nil {
			return nil, err
		}
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		list = append(list, source{path, info.Size(), info.ModTime().UTC()})
	}
	return list, nil
}

// resume makes a job go on where an earlier one stopped, if that converted the same files to the same type; else from the
// beginning. It returns the bytes of data that need not be written again.
func (j *job) resume(o Options, sum hash.Hash) (int64, error) {
	files, err := sources(j.ckpt)
	if err != nil {
		return 0, inputError("%w", err)
	}
	j.keeper = &keeper{path: o.Out + journalSuffix, sum: sum, next: journal{Type: o.Type, Sources: files, Lost: j.lost}}
	old, ok := readJournal(j.keeper.path)
	if ok && old.follows(j.keeper.next) && old.Tensors <= len(j.plan.outputs) && sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(old.Sum) == nil {
		err := j.writer.Keep(o.Out+partialSuffix, old.Tensors)
		if err == nil {
			return j.goOn(old), j.writer.CopyTo(sum)
		}
		if !errors.Is(err, weights.ErrOtherFile) {
			return 0, err
		}
	}
	sum.Reset()
	if err := j.writer.Keep(o.Out+partialSuffix, 0); err != nil {
		return 0, err
	}
	return 0, j.writer.CopyTo(sum)
}

// goOn takes over what an earlier run found out about the tensors that it wrote whole.
func (j *job) goOn(old journal) int64 {
	j.keeper.next, j.lost, j.from = old, old.Lost, old.Tensors
	j.written, j.keeper.saved = j.writer.Written(), j.writer.Written()
	again := map[string]bool{}
	for _, info := range j.writer.Order()[j.from:] {
		again[info.Name] = true
	}
	for _, o := range j.plan.outputs {
		if again[o.info.Name] && !o.scales() {
			delete(j.lost, o.source.Name)
		}
	}
	return j.written
}

// maxJournal bounds the file, in bytes: a few hundred for each tensor.
const maxJournal = 16 << 20

func readJournal(path string) (j journal, ok bool) {
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxJournal {
		return j, false
	}
	data, err := os.ReadFile(path)
	if err != nil || json.Unmarshal(data, &j) != nil || j.Lost == nil || j.Tensors < 1 {
		return j, false
	}
	for _, d := range j.Lost {
		if d == nil {
			return j, false
		}
	}
	return j, true
}

// follows says whether a journal is one of the same conversion.
func (j journal) follows(other journal) bool {
	if j.Type != other.Type || len(j.Sources) != len(other.Sources) {
		return false
	}
	for k, s := range j.Sources {
		if o := other.Sources[k]; s.Path != o.Path || s.Bytes != o.Bytes || !s.Modified.Equal(o.Modified) {
			return false
		}
	}
	return true
}

// whole remembers that one more tensor was written, and saves that now and then.
func (k *keeper) whole(w *weights.Writer) (err error) {
	if k.next.Sum, err = k.sum.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	k.next.Tensors++
	if w.Written()-k.saved < saveEvery {
		return nil
	}
	k.saved = w.Written()
	return k.save(w)
}

// save writes the journal, after the data that it speaks of.
func (k *keeper) save(w *weights.Writer) error {
	if k.next.Tensors == 0 {
		return nil
	}
	err := w.Sync()
	if err != nil {
		return err
	}
	data, err := json.Marshal(k.next)
	if err == nil {
		err = os.WriteFile(k.path+".tmp", data, 0o644)
	}
	if err == nil {
		err = os.Rename(k.path+".tmp", k.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", k.path, err)
	}
	return nil
}

// stop leaves what another run can go on from.
func (k *keeper) stop(w *weights.Writer) error {
	if k == nil {
		return nil
	}
	return k.save(w)
}

// done removes the journal of a finished conversion.
func (k *keeper) done() error {
	if k == nil {
		return nil
	}
	if err := os.Remove(k.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return oneline.Join(err)
	}
	return nil
}
