package swap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// shifted is a pattern whose blocks from the second on, every other one, have another first word.
type shifted struct {
	pattern
	by uint32
}

func (s *shifted) changed(i int) bool { return i%2 == 1 }

func (s *shifted) Read(ctx context.Context, i int, dst []byte) error {
	if err := s.pattern.Read(ctx, i, dst); err != nil {
		return err
	}
	if s.changed(i) {
		return s.patch(ctx, i, dst)
	}
	return nil
}

func (s *shifted) patch(_ context.Context, i int, dst []byte) error {
	binary.LittleEndian.PutUint32(dst, uint32(i)<<24+s.by)
	return nil
}

func (s *shifted) change() Change { return Change{Source: s, Changed: s.changed, Patch: s.patch} }

// firstWords runs a pass and returns the first word of every block.
func firstWords(t *testing.T, d *engine.Device, s *Swapper, blocks int) ([]uint32, error) {
	t.Helper()
	out, err := d.Alloc("first words", engine.U32, blocks, 1)
	if err != nil {
		return nil, err
	}
	defer d.Free(out)
	c := d.Compute()
	for i := range blocks {
		b, err := s.Acquire(t.Context(), i)
		if err != nil {
			return nil, err
		}
		if b.Ready.Stream != nil {
			c.Wait(b.Ready)
		}
		c.Copy(out.Rows(i, i+1), engine.Tensor{Mem: b.Mem, DType: engine.U32, Shape: []int{1, 1}})
		if err := s.Release(i, c); err != nil {
			return nil, err
		}
	}
	got, err := d.DownloadU32(t.Context(), out)
	return got, errors.Join(err, s.Err())
}

func TestRefreshedBlocksAreThoseOfTheNewSource(t *testing.T) {
	const n = 5
	for _, limits := range []engine.TestLimits{{}, {SingleQueue: true}} {
		d := enginetest.OpenWith(t, engine.Options{Limits: limits})
		for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
			for _, o := range []Options{{Slots: 1}, {Slots: 2}, {Slots: 4, Stream: 2}, {Slots: 3, Policy: FIFO}, {Slots: n}} {
				name := fmt.Sprintf("%s, %+v, %+v", tier, o, limits)
				o.Blocks = n
				plan, err := NewPlan(o)
				if err != nil {
					t.Fatal(err)
				}
				s, err := New(t.Context(), d, &pattern{blocks: n}, Config{Plan: plan, Tier: tier, Pinned: 1})
				if err != nil {
					t.Fatal(err)
				}
				for round := range uint32(4) { // the second refresh comes before a pass
					if round > 0 {
						if err := s.Refresh(t.Context(), (&shifted{pattern{blocks: n}, round}).change()); err != nil {
							t.Fatalf("%s: %v", name, err)
						}
					}
					if round == 1 {
						continue
					}
					got, err := firstWords(t, d, s, n)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					for i, word := range got {
						if want := uint32(i)<<24 + round*uint32(i%2); word != want {
							t.Errorf("%s, round %d: block %d begins with %#x, want %#x", name, round, i, word, want)
						}
					}
				}
				if err := s.Close(); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func TestRefreshReadsNoMoreThanItMust(t *testing.T) {
	d := enginetest.Open(t)
	plan, _ := NewPlan(Options{Blocks: 5, Slots: 3, Stream: 1}) // residents 2 and 4
	s, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan})
	if err != nil {
		t.Fatal(err)
	}
	next := &shifted{pattern{blocks: 5}, 1}
	if err := s.Refresh(t.Context(), next.change()); err != nil {
		t.Fatal(err)
	}
	want := 0
	for i, home := range plan.Home {
		if home >= 0 && next.changed(i) {
			want++
		}
	}
	if got := next.reads.Load(); got != int64(want) {
		t.Errorf("%d blocks were read, want the %d changed residents of %v", got, want, plan.Home)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestARefreshThatFailsOrComesTooEarlyIsAnError(t *testing.T) {
	d := enginetest.Open(t)
	for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
		plan, _ := NewPlan(Options{Blocks: 5, Slots: 3, Stream: 1})
		s, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan, Tier: tier, Pinned: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Refresh(t.Context(), (&shifted{pattern{blocks: 4}, 1}).change()); err == nil {
			t.Error("4 blocks took the place of 5")
		}
		change := (&shifted{pattern{blocks: 5, failAt: 1}, 1}).change()
		change.Patch = func(context.Context, int, []byte) error { return errDisk }
		change.Changed = func(int) bool { return true }
		if err := s.Refresh(t.Context(), change); !errors.Is(err, errDisk) {
			t.Errorf("%s: got %v", tier, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", tier, err)
		}
	}
	plan, _ := NewPlan(Options{Blocks: 5, Slots: 1})
	s, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Acquire(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Refresh(t.Context(), (&shifted{pattern{blocks: 5}, 1}).change()); err == nil {
		t.Error("blocks were replaced within a pass")
	}
	if err := errors.Join(d.Compute().Finish(t.Context()), s.Close()); err != nil {
		t.Error(err)
	}
}
