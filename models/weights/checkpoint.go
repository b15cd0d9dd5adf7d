package weights

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Checkpoint is the set of tensors of one network, over one or several files.
type Checkpoint struct {
	path    string
	files   []*File
	tensors map[string]Tensor
	names   []string
	ignored []string
	owned   bool
}

// OpenOptions says how stored tensor names become those of the network. The zero value changes nothing.
type OpenOptions struct {
	// Component applies that network's name mapping: Qwen's "model.language_model." and "model.visual.", CLIP's
	// optional "text_model.". Tensors of unused parts are left out and listed by Ignored.
	Component Component
	// Prefix keeps only the tensors whose stored name starts with it, and strips it before any mapping. Golden
	// cases keep their parameters under "weights.".
	Prefix string
}

// OpenCheckpoint opens a network's tensors under their stored names. The path is a safetensors file, a folder
// that holds exactly one, or a folder with an index ("*.safetensors.index.json"), whose every shard must exist and
// hold what the index says.
func OpenCheckpoint(path string) (*Checkpoint, error) { return OpenComponent(path, AnyComponent) }

// OpenComponent is OpenCheckpoint with the name mapping of a network.
func OpenComponent(path string, c Component) (*Checkpoint, error) {
	set, err := findShards(path)
	if err != nil {
		return nil, fmt.Errorf("weights: %w", err)
	}
	var files []*File
	for _, p := range set.files {
		f, err := Open(p)
		if err != nil {
			return nil, errors.Join(err, closeAll(files))
		}
		files = append(files, f)
	}
	ckpt, err := newCheckpoint(path, files, set.shardOf, OpenOptions{Component: c})
	if err != nil {
		return nil, errors.Join(err, closeAll(files))
	}
	ckpt.owned = true
	return ckpt, nil
}

// NewCheckpoint makes a checkpoint of files that are already open. It does not own them: closing the checkpoint
// leaves them open, and they must outlive it.
func NewCheckpoint(files []*File, opt OpenOptions) (*Checkpoint, error) {
	path := ""
	if len(files) > 0 {
		path = files[0].Path()
	}
	return newCheckpoint(path, files, nil, opt)
}

// newCheckpoint collects tensors. With an index, shardOf maps each stored name to its file, and tensors that the
// index does not name are left out.
func newCheckpoint(path string, files []*File, shardOf map[string]string, opt OpenOptions) (*Checkpoint, error) {
	c := &Checkpoint{path: path, files: files, tensors: map[string]Tensor{}}
	vae3d := vae3dParts()
	for _, f := range files {
		if err := checkVAEFile(f); err != nil {
			return nil, err
		}
		for _, stored := range f.Names() {
			if shardOf != nil && shardOf[stored] != f.Path() {
				continue
			}
			name, ok := strings.CutPrefix(stored, opt.Prefix)
			if !ok {
				continue
			}
			name, used := opt.Component.canonical(name)
			if !used {
				c.ignored = append(c.ignored, stored)
				continue
			}
			t, _ := f.Tensor(stored)
			t.Name = name
			if opt.Component == VAE && f.metadata[ggufArchitecture] == vae3dKind {
				var err error
				if t, err = fromVAE3D(t, vae3d); err != nil {
					return nil, err
				}
				name = t.Name
			}
			if other, dup := c.tensors[name]; dup {
				return nil, t.errorf("also in %s under the same name %q", other.File, name)
			}
			c.tensors[name] = t
		}
	}
	if err := checkIndexed(files, shardOf); err != nil {
		return nil, err
	}
	if err := c.joinScales(); err != nil {
		return nil, err
	}
	sort.Strings(c.ignored)
	return c, nil
}

// checkIndexed demands that each tensor named by an index is in the file the index names.
func checkIndexed(files []*File, shardOf map[string]string) error {
	byPath := map[string]*File{}
	for _, f := range files {
		byPath[f.Path()] = f
	}
	for _, name := range sortedKeys(shardOf) {
		if _, ok := byPath[shardOf[name]].Tensor(name); !ok {
			return fmt.Errorf("weights: %s: tensor %q is missing, though the index says it is in this file", shardOf[name], name)
		}
	}
	return nil
}

// Path is the file or folder that was opened.
func (c *Checkpoint) Path() string { return c.path }

// Files are the files the tensors lie in. The caller must not change the slice.
func (c *Checkpoint) Files() []*File { return c.files }

// Names are the names of all tensors, sorted. The caller must not change the slice.
func (c *Checkpoint) Names() []string { return c.names }

// Ignored are the stored names, sorted, of tensors the network does not use.
func (c *Checkpoint) Ignored() []string { return c.ignored }

// Tensor returns the tensor of that name, or false.
func (c *Checkpoint) Tensor(name string) (Tensor, bool) {
	t, ok := c.tensors[name]
	return t, ok
}

// Require returns the tensor of that name and shape in a type that can be a weight (Tensor.IsWeight), or an error that
// names the file and the tensor.
func (c *Checkpoint) Require(name string, shape ...int) (Tensor, error) {
	t, ok := c.tensors[name]
	if !ok {
		return t, fmt.Errorf("weights: %s: tensor %q is missing", c.path, name)
	}
	if !slices.Equal(t.Shape, shape) {
		return t, t.errorf("shape is %v, want %v", t.Shape, shape)
	}
	if !t.IsWeight() {
		return t, t.errorf("element type is %s, want %s", t.DType, weightTypes)
	}
	return t, nil
}

// Bytes is the size of all tensors together.
func (c *Checkpoint) Bytes() int64 {
	var n int64
	for _, t := range c.tensors {
		n += t.Bytes()
	}
	return n
}

// CheckFinite looks for NaN and infinities in every tensor, in name order, until the context ends.
func (c *Checkpoint) CheckFinite(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2) // each tensor already uses all processors; the second hides the small ones
	for _, name := range c.names {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			q, quantized, err := c.NF4(name)
			switch {
			case err != nil:
				return err
			case quantized:
				return q.CheckFinite()
			}
			return c.tensors[name].CheckFinite()
		})
	}
	return group.Wait()
}

// Close closes the files when the checkpoint opened them; every view becomes invalid. A second call does nothing.
func (c *Checkpoint) Close() error {
	if !c.owned {
		return nil
	}
	return closeAll(c.files)
}

func closeAll(files []*File) error {
	var errs []error
	for _, f := range slices.Backward(files) {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Forget says that elements begin to end−1 of a tensor will not be read again soon, so that reading all of a large
// checkpoint does not fill the memory. Reading them again is allowed and reads the file again.
func (c *Checkpoint) Forget(t Tensor, begin, end int) {
	for _, f := range c.files {
		if f.path != t.File || t.at == 0 {
			continue
		}
		f.mu.Lock()
		if f.close != nil {
			forget(f.mapping, t.at+int64(t.DType.Bytes(begin)), t.at+int64(t.DType.Bytes(end)))
		}
		f.mu.Unlock()
	}
}
