package swap

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/memory"
)

// pattern is a source whose block i holds words i·2²⁴ + position.
type pattern struct {
	blocks int
	failAt int64 // read that fails, from 1; 0 never
	reads  atomic.Int64
}

const patternBytes = 8192

var errDisk = errors.New("disk is broken")

func (p *pattern) Blocks() int       { return p.blocks }
func (p *pattern) BlockBytes() int64 { return patternBytes }
func (p *pattern) Read(_ context.Context, i int, dst []byte) error {
	if p.reads.Add(1) == p.failAt {
		return errDisk
	}
	for k := 0; k < len(dst); k += 4 {
		binary.LittleEndian.PutUint32(dst[k:], uint32(i)<<24+uint32(k))
	}
	return nil
}

// short is a source of blocks of which the first words say how many bytes are used: not all, and another number in every block.
type short struct{ pattern }

func (s *short) Read(ctx context.Context, i int, dst []byte) error {
	if err := s.pattern.Read(ctx, i, dst); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(dst, uint32(shortBytes(i)))
	return nil
}

func (s *short) Used(block []byte) int64 { return int64(binary.LittleEndian.Uint32(block)) }

func shortBytes(i int) int { return patternBytes/2 + 4*i }

// walk runs passes over all blocks, copying each block to its own place of a result, and checks what came.
func walk(t *testing.T, d *engine.Device, s *Swapper, blocks, passes int) error {
	t.Helper()
	ctx := t.Context()
	out, err := d.Alloc("walk result", engine.U32, passes*blocks, patternBytes/4)
	if err != nil {
		return err
	}
	defer d.Free(out)
	c := d.Compute()
	for q := range passes * blocks {
		b, err := s.Acquire(ctx, q%blocks)
		if err != nil {
			return err
		}
		if b.Ready.Stream != nil {
			c.Wait(b.Ready)
		}
		c.Copy(out.Rows(q, q+1), engine.Tensor{Mem: b.Mem, DType: engine.U32, Shape: []int{1, patternBytes / 4}})
		if err := s.Release(q%blocks, c); err != nil {
			return err
		}
	}
	got, err := d.DownloadU32(ctx, out)
	if err := errors.Join(err, s.Err()); err != nil {
		return err
	}
	for k, v := range got {
		q, word := k/(patternBytes/4), k%(patternBytes/4)
		if want := uint32(q%blocks)<<24 + uint32(4*word); v != want {
			return fmt.Errorf("access %d word %d is %#x, want %#x", q, word, v, want)
		}
	}
	return nil
}

func TestEverySlotCountPolicyAndTierBringsTheRightBlocks(t *testing.T) {
	const n = 5
	for _, limits := range []engine.TestLimits{{}, {SingleQueue: true}, {DescriptorSets: true}} {
		d := enginetest.OpenWith(t, engine.Options{Limits: limits})
		for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
			for _, policy := range []Policy{Resident, FIFO} {
				for k := 1; k <= n+1; k++ {
					for p := 1; p <= k; p++ {
						if policy == FIFO && p > 1 {
							continue
						}
						name := fmt.Sprintf("%s, %s, %d slots, %d streaming, %+v", tier, policy, k, p, limits)
						plan, err := NewPlan(Options{Blocks: n, Slots: k, Stream: p, Policy: policy})
						if err != nil {
							t.Fatal(err)
						}
						s, err := New(t.Context(), d, &pattern{blocks: n}, Config{Plan: plan, Tier: tier, Pinned: 1})
						if err != nil {
							t.Fatalf("%s: %v", name, err)
						}
						if err := walk(t, d, s, n, 3); err != nil {
							t.Errorf("%s: %v", name, err)
						}
						c := s.Counters()
						if want := int64(3 * (n - len(plan.Streamed))); c.Accesses != 3*n || c.Hits != want {
							t.Errorf("%s: counters %+v, want %d hits", name, c, want)
						}
						if err := s.Close(); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
				}
			}
		}
	}
}

// TestOnlyWhatIsUsedOfABlockIsCopied looks for bytes that nobody wrote behind it, and for what is counted.
func TestOnlyWhatIsUsedOfABlockIsCopied(t *testing.T) {
	const n = 5
	d := enginetest.Open(t)
	for _, tier := range []HostTier{Pinned, Mapped} {
		plan, err := NewPlan(Options{Blocks: n, Slots: 3, Stream: 2})
		if err != nil {
			t.Fatal(err)
		}
		s, err := New(t.Context(), d, &short{pattern{blocks: n}}, Config{Plan: plan, Tier: tier})
		if err != nil {
			t.Fatal(err)
		}
		want := int64(0)
		for i := range n {
			b, err := s.Acquire(t.Context(), i)
			if err != nil {
				t.Fatal(err)
			}
			if b.Ready.Stream != nil {
				d.Compute().Wait(b.Ready)
			} else {
				want += int64(shortBytes(i))
			}
			got, err := d.DownloadU32(t.Context(), engine.Tensor{Mem: b.Mem, DType: engine.U32, Shape: []int{patternBytes / 4}})
			if err != nil {
				t.Fatal(err)
			}
			last := shortBytes(i)/4 - 1
			if got[0] != uint32(shortBytes(i)) || got[last] != uint32(i)<<24+uint32(4*last) {
				t.Errorf("%s: block %d begins with %#x and ends with %#x", tier, i, got[0], got[last])
			}
			if got[last+1] == uint32(i)<<24+uint32(4*(last+1)) {
				t.Errorf("%s: block %d was copied to its end", tier, i)
			}
			if err := s.Release(i, d.Compute()); err != nil {
				t.Fatal(err)
			}
		}
		c := s.Counters()
		for k := range int(c.Loads) {
			want += int64(shortBytes(plan.Load(k).Block))
		}
		if c.Loads < 3 || c.Bytes != want {
			t.Errorf("%s: %+v, want %d bytes", tier, c, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoppingInTheMiddleOfAPassLeavesNothingBehind(t *testing.T) {
	d := enginetest.Open(t)
	for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
		for stop := range 7 {
			plan, _ := NewPlan(Options{Blocks: 5, Slots: 2})
			s, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan, Tier: tier, Pinned: 1})
			if err != nil {
				t.Fatal(err)
			}
			for q := range stop {
				b, err := s.Acquire(t.Context(), q%5)
				if err != nil {
					t.Fatal(err)
				}
				if b.Ready.Stream != nil {
					d.Compute().Wait(b.Ready)
				}
				if q < stop-1 {
					if err := s.Release(q%5, d.Compute()); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s stopped after %d: %v", tier, stop, err)
			}
			if err := d.Compute().Finish(t.Context()); err != nil {
				t.Errorf("%s stopped after %d: %v", tier, stop, err)
			}
		}
	}
}

func TestEveryFailedReadIsReportedWithoutLeaks(t *testing.T) {
	for _, limits := range []engine.TestLimits{{}, {SingleQueue: true}} {
		d := enginetest.OpenWith(t, engine.Options{Limits: limits})
		for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
			for fail := int64(1); ; fail++ {
				source := &pattern{blocks: 5, failAt: fail}
				plan, _ := NewPlan(Options{Blocks: 5, Slots: 3, Stream: 2})
				s, err := New(t.Context(), d, source, Config{Plan: plan, Tier: tier, Pinned: 1})
				if err == nil {
					err = walk(t, d, s, 5, 3)
					if closeErr := s.Close(); err == nil {
						err = closeErr
					}
				}
				if source.reads.Load() < fail {
					if err != nil {
						t.Fatalf("clean run failed: %v", err)
					}
					break
				}
				// Reads ahead of need may fail when nobody asks any more.
				kept, _ := tier.Pins(len(plan.Streamed), 1, 0)
				needed := int64(plan.Blocks - len(plan.Streamed) + kept + 3*(len(plan.Streamed)-kept))
				if !errors.Is(err, errDisk) && (err != nil || fail <= needed) {
					t.Errorf("%s, read %d failed: got %v", tier, fail, err)
				}
			}
		}
	}
}

func TestSlotsThatDoNotFitTheBudgetAreRefused(t *testing.T) {
	d := enginetest.OpenWith(t, engine.Options{DeviceBudget: 20000})
	plan, _ := NewPlan(Options{Blocks: 5, Slots: 3})
	_, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan})
	if !errors.Is(err, memory.ErrBudget) {
		t.Errorf("got %v, want a budget error", err)
	}
}

func TestASlowerBusBringsTheSameBlocks(t *testing.T) {
	d := enginetest.Open(t)
	plan, _ := NewPlan(Options{Blocks: 5, Slots: 3, Stream: 2})
	for _, tier := range []HostTier{Pinned, Mixed, Mapped} {
		for _, repeat := range []float64{1, 1.3, 2, 3.99} {
			s, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan, Tier: tier, Repeat: repeat})
			if err != nil {
				t.Fatal(err)
			}
			if err := walk(t, d, s, 5, 2); err != nil {
				t.Errorf("%s, %g times: %v", tier, repeat, err)
			}
			if tier == Pinned { // the other one's stream is another goroutine's
				c := s.stream.Counters()
				residents := int64(plan.Slots-plan.Stream) * patternBytes
				if moved := float64(c.CopiedBytes-residents) / float64(s.Counters().Loads*patternBytes); math.Abs(moved-repeat) > 0.01 {
					t.Errorf("blocks were copied %g times, want %g", moved, repeat)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s, %g times: %v", tier, repeat, err)
			}
		}
		for _, repeat := range []float64{-1, 0.5, 1e6, math.NaN()} {
			if _, err := New(t.Context(), d, &pattern{blocks: 5}, Config{Plan: plan, Tier: tier, Repeat: repeat}); err == nil {
				t.Errorf("copying %g times was accepted", repeat)
			}
		}
	}
}
