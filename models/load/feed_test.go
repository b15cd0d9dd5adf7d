package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// counting gives tensors whose numbers are all their group's, and tells which it is asked for.
type counting struct {
	asked chan string
	fail  string
}

func (c counting) DType(string) (weights.DType, error) { return weights.F32, nil }

func (c counting) Read(ctx context.Context, name string, shape []int, to engine.DType, dst []byte) error {
	if name == c.fail {
		return fmt.Errorf("%s is broken", name)
	}
	var group uint32
	if _, err := fmt.Sscanf(name, "g%d.", &group); err != nil {
		return err
	}
	for k := 0; k < len(dst); k += 4 {
		binary.LittleEndian.PutUint32(dst[k:], group+1)
	}
	select {
	case c.asked <- name:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fedGroups are n groups of tensors of these lengths.
func fedGroups(t *testing.T, n int, lengths ...int) []Group {
	t.Helper()
	var groups []Group
	for i := range n {
		var spec weights.Spec
		for k, length := range lengths {
			spec = append(spec, weights.Expected{Name: fmt.Sprintf("g%d.t%d", i, k), Shape: []int{length}})
		}
		g, err := NewGroup(spec, fmt.Sprintf("g%d.", i), counting{}, Float32)
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, g)
	}
	return groups
}

func TestAFeedBringsOneGroupAfterTheOther(t *testing.T) {
	d := enginetest.Open(t)
	for name, c := range map[string]struct {
		lengths []int
		buffers int
	}{
		"two buffers":             {[]int{64, 64, 64, 64}, 2},
		"uneven":                  {[]int{100, 7, 64, 130, 1}, 2},
		"a tensor that is larger": {[]int{64, 500}, 1},
		"one tensor":              {[]int{9}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			groups := fedGroups(t, 5, c.lengths...)
			r := counting{asked: make(chan string, 100)}
			f, err := NewFeed(t.Context(), d, r, len(groups), func(i int) Group { return groups[i] }, "fed")
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var taken int64
			for _, region := range f.staging {
				taken += region.Size
			}
			if len(f.staging) != c.buffers || taken > groups[0].StagingBytes()+16 {
				t.Errorf("%d buffers of %d bytes together, want %d of at most %d", len(f.staging), taken, c.buffers, groups[0].StagingBytes())
			}
			for i := range groups {
				p, err := f.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for k, length := range c.lengths {
					got, err := d.DownloadU32(t.Context(), p.Get(fmt.Sprintf("t%d", k)))
					if err != nil || len(got) != length || got[0] != uint32(i+1) || got[length-1] != uint32(i+1) {
						t.Fatalf("group %d, tensor %d: %v, %v", i, k, got, err)
					}
				}
			}
		})
	}
}

// TestAFeedReadsAhead would never end if the second group were read when it is asked for.
func TestAFeedReadsAhead(t *testing.T) {
	d := enginetest.Open(t)
	groups := fedGroups(t, 2, 64, 64)
	r := counting{asked: make(chan string)}
	f, err := NewFeed(t.Context(), d, r, len(groups), func(i int) Group { return groups[i] }, "fed")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := make(chan error)
	go func() {
		_, err := f.Next(t.Context())
		first <- err
	}()
	for _, want := range []string{"g0.t0", "g0.t1"} {
		if got := <-r.asked; got != want {
			t.Errorf("%s is read, want %s", got, want)
		}
	}
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"g1.t0", "g1.t1"} {
		if got := <-r.asked; got != want {
			t.Errorf("%s is read, want %s", got, want)
		}
	}
}

func TestAFeedEndsWithItsReaderAndItsContext(t *testing.T) {
	d := enginetest.Open(t)
	groups := fedGroups(t, 3, 64, 64)
	r := counting{asked: make(chan string, 100), fail: "g1.t1"}
	f, err := NewFeed(t.Context(), d, r, len(groups), func(i int) Group { return groups[i] }, "fed")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Next(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := f.Next(t.Context()); err == nil || !strings.Contains(err.Error(), "g1.t1 is broken") {
		t.Errorf("error %v", err)
	}
	f.Close()

	ctx, cancel := context.WithCancel(t.Context())
	r = counting{asked: make(chan string)} // nobody listens
	if f, err = NewFeed(ctx, d, r, len(groups), func(i int) Group { return groups[i] }, "fed"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := f.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	f.Close()
}
