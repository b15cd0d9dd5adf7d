package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/promptfile"
	"github.com/vkandinsky/vkandinsky/internal/smallfile"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/receipt"
)

const (
	// batchSuffix ends the name of a batch's file, by which --resume tells it from a state.
	batchSuffix  = ".batch"
	batchVersion = 1
	// maxBatchBytes is above what the longest prompt file leads to.
	maxBatchBytes = 64 << 20
	// maxBatchClips is what a prompt file has at most.
	maxBatchClips = 10000
	// noteBatch is the note of a state that says which batch its clip belongs to.
	noteBatch = "batch"
)

// errBatch is what every error about a file that is no sound batch wraps.
var errBatch = errors.New("no batch that can be continued")

// batch is what a run of many clips leaves beside them until all are made: how it was started and how far it is. The clip
// in the making has a state besides.
type batch struct {
	Version int         `json:"vkandinsky_batch"`
	ID      string      `json:"id"` // in the notes of its states
	Flags   [][2]string `json:"flags"`
	Folder  string      `json:"folder"`
	From    string      `json:"from_sha256,omitempty"` // of the receipt that --from names
	Config  string      `json:"config_sha256,omitempty"`
	// Weights are the networks' files, without adapters; none until they have been looked at.
	Weights []receipt.Weights `json:"weights"`
	Clips   []batchClip       `json:"clips"`
	// Contact sheets as far as they are drawn: over clips, and over drafts.
	Sheet  batchSheet `json:"contact_sheet"`
	Drafts batchSheet `json:"draft_sheet"`
}

// batchClip is one clip of a batch.
type batchClip struct {
	Where   string             `json:"where"`
	Suffix  string             `json:"suffix"`
	Number  uint64             `json:"number"` // what --continue names it by: its seed, or its place in the prompt file
	Values  []promptfile.Value `json:"values"`
	Output  string             `json:"output"`
	Picture string             `json:"picture_sha256,omitempty"`
	// Adapters are the fingerprints of its LoRA adapters' files.
	Adapters []string   `json:"adapters"`
	Status   clipStatus `json:"status"`
}

// clipStatus is how far a clip is.
type clipStatus string

const (
	clipOpen    clipStatus = ""
	clipDrafted clipStatus = "drafted" // its state is that of the draft, or of a later step
	clipDone    clipStatus = "done"
)

// batchSheet is a contact sheet: its first rows of pixels are the clips that are done.
type batchSheet struct {
	File   string `json:"file,omitempty"`
	Height int    `json:"height,omitempty"`
}

// newBatchID tells batches apart.
func newBatchID() string { return rand.Text() }

// write replaces the file.
func (b *batch) write(path string) error {
	return media.WriteFile(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(b) })
}

// readBatch reads a file. Errors are one line, name it and wrap errBatch.
func readBatch(path string) (*batch, error) {
	b, err := func() (*batch, error) {
		data, err := smallfile.Read(path, maxBatchBytes, "batch")
		if err != nil {
			return nil, err
		}
		return parseBatch(data)
	}()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, errBatch, err)
	}
	return b, nil
}

// parseBatch reads a file's bytes, and checks all that can be checked without its flags.
func parseBatch(data []byte) (*batch, error) {
	var version struct {
		Version int `json:"vkandinsky_batch"`
	}
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Version != batchVersion {
		return nil, fmt.Errorf("its format is version %d, this program reads version %d: continue with the program that made it", version.Version, batchVersion)
	}
	b := &batch{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		return nil, err
	}
	return b, b.check()
}

func (b *batch) check() error {
	if b.ID == "" || len(b.Clips) == 0 || len(b.Clips) > maxBatchClips {
		return fmt.Errorf("it has %d clips and the id %.40q", len(b.Clips), b.ID)
	}
	for _, s := range []batchSheet{b.Sheet, b.Drafts} {
		if s.Height < 0 || s.File != "" && !strings.EqualFold(filepath.Ext(s.File), ".png") {
			return fmt.Errorf("its contact sheet is %.80q with %d rows", s.File, s.Height)
		}
	}
	numbers := map[uint64]bool{}
	for k, c := range b.Clips {
		switch {
		case numbers[c.Number]:
			return fmt.Errorf("clip %d is there twice", c.Number)
		case c.Status != clipOpen && c.Status != clipDrafted && c.Status != clipDone:
			return fmt.Errorf("clip %d is %.40q", k+1, c.Status)
		case !filepath.IsAbs(c.Output) || c.Suffix == "" || strings.ContainsAny(c.Suffix, `/\`):
			return fmt.Errorf("clip %d is to be %.80q, with files that end in %.40q", k+1, c.Output, c.Suffix)
		}
		if err := promptfile.Check(c.Values); err != nil {
			return fmt.Errorf("clip %d: %w", k+1, err)
		}
		numbers[c.Number] = true
	}
	return nil
}

// statePath is where a clip's states lie.
func (c batchClip) statePath() string { return c.Output + stateSuffix }

// counts says how many clips have a status.
func (b *batch) count(status clipStatus) (n int) {
	for _, c := range b.Clips {
		if c.Status == status {
			n++
		}
	}
	return n
}

// state reads the state of a clip; nil where there is none of this batch.
func (b *batch) state(c batchClip) (*kandinsky5.State, error) {
	s, err := kandinsky5.ReadState(c.statePath())
	if _, statErr := os.Stat(c.statePath()); errors.Is(statErr, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil || s.Notes[noteBatch] != b.ID {
		return nil, err
	}
	return s, nil
}

// removeStates takes the states of the clips that are done, or of all, from the disk.
func (b *batch) removeStates(all bool) error {
	for _, c := range b.Clips {
		if !all && c.Status != clipDone {
			continue
		}
		if s, err := b.state(c); err != nil || s == nil {
			continue // not of this batch, or none that it could be told of
		}
		if err := os.Remove(c.statePath()); err != nil {
			return err
		}
	}
	return nil
}

// Flags that a batch does not remember.
var forgottenByBatch = []string{"resume", "fault", "print-prompt", "log-level", "verbose", "quiet", "continue"}

// restore sets the flags of a batch as savedFlags does.
func (b *batch) restore(f *flags, path string) error {
	list := slices.Clone(b.Flags)
	if f.changed("continue") { // the sheet that was asked for is that of the drafts
		list = slices.DeleteFunc(list, func(g [2]string) bool { return g[0] == "contact-sheet" })
	}
	if now, ok := valuesOf(f.given, "output-filename"); ok {
		was, _ := valuesOf(b.Flags, "output-filename")
		if flag := f.lookup("output-filename"); len(was) == 0 || absolute(flag, now[len(now)-1]) != was[len(was)-1] {
			return badInputf("--output-filename %s: the files of a batch keep their names: leave the flag out, or begin a new run", shown(now))
		}
	}
	saved := savedFlags{path, errBatch, list, forgottenByBatch}
	if err := saved.restore(f, nil); err != nil {
		return err
	}
	return restoreFolder(f, b.Folder)
}
