package kandinsky5

import (
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/memory"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/swap"
)

// The search for the smallest budget ends when it is known to a part in leastParts.
const leastParts = 256

// least returns the smallest device budget, in bytes, with which the request could run. Everything that may be chosen is
// planned as small as can be; then budgets are tried for what the stages need, and the plan that follows from the smallest. 0:
// none is enough, as pinned memory is short.
func (p *planner) least() (int64, error) {
	q := *p
	q.smallest, q.limits.Device = true, 0
	if err := q.plan(); err != nil || !q.out.Fits {
		return 0, err
	}
	fits := func(budget int64) bool {
		for _, need := range q.needs {
			need.Cut.Budget = budget
			if need.Bytes() > budget {
				return false
			}
		}
		return true
	}
	low, high := int64(0), q.out.Device
	for high-low > max(high/leastParts, 16<<10) {
		if middle := (low + high) / 2; fits(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return p.carried(roundUp(high))
}

// carried returns the smallest budget from one on that a plan can be made for. It may take a little more than the stages need: a
// plan chooses tiles for what is left beside chunks that are not full.
func (p *planner) carried(budget int64) (int64, error) {
	fits := func(budget int64) (bool, error) {
		q := *p
		q.smallest, q.limits.Device = false, budget
		err := q.plan()
		return q.out.Fits, err
	}
	step := max(budget/leastParts, 4<<10)
	for tries := 0; tries < leastParts; tries++ {
		ok, err := fits(budget)
		if err != nil || ok {
			return budget, err
		}
		budget = roundUp(budget + step)
	}
	return 0, nil
}

// roundUp makes a budget that people can write: whole MiB where it has many of them.
func roundUp(bytes int64) int64 {
	const mib = 1 << 20
	if bytes < 16*mib {
		return bytes
	}
	return (bytes + mib - 1) / mib * mib
}

// flagSize writes bytes as a flag takes them, to the byte.
func flagSize(bytes int64) string {
	if bytes%(1<<20) == 0 {
		return fmt.Sprintf("%dMiB", bytes>>20)
	}
	return fmt.Sprint(bytes)
}

// advice names the smallest changes that make the run fit: first of what was asked for, then of the budget, then of the
// video.
func (p *planner) advice() (string, error) {
	if p.codingHelps() {
		return "code the exponents of the blocks that wait, which loses nothing: --host-weights bf16z", nil
	}
	if text, err := p.adviceOnOptions(); text != "" || err != nil {
		return text, err
	}
	least, err := p.least()
	if err != nil {
		return "", err
	}
	if least == 0 {
		return "allow more pinned host memory: raise --ram-budget", nil
	}
	p.out.Least = least
	text := "the smallest budget that works is --vram-budget " + flagSize(least)
	if helps, err := p.quantizingHelps(); err != nil {
		return "", err
	} else if helps {
		text = "hold the text encoder in 4 bits: --qwen-quantization; without it " + text
	}
	if seconds, ok, err := p.shorter(); err != nil {
		return "", err
	} else if ok {
		text += fmt.Sprintf(", the longest video that fits --video-duration %d", seconds)
	}
	return text, nil
}

// codingHelps tells whether blocks that must wait in pinned memory would fit with coded exponents.
func (p *planner) codingHelps() bool {
	if p.opts.HostTier != swap.Pinned || p.opts.HostWeights.Unpacks() || p.opts.Linear != load.LinearFull {
		return false
	}
	q := *p
	q.opts.HostWeights = load.CodedWeights
	return q.plan() == nil && q.out.Fits // an error is that of weights that have no such codes
}

// quantizingHelps tells whether the run would fit with the text encoder in 4 bits.
func (p *planner) quantizingHelps() (bool, error) {
	if p.opts.QuantizeQwen {
		return false, nil
	}
	q := *p
	q.opts.QuantizeQwen = true
	err := q.plan()
	return err == nil && q.out.Fits, err
}

// adviceOnOptions tries what was asked for one by one, then together.
func (p *planner) adviceOnOptions() (string, error) {
	o := p.opts
	o.Auto = true
	try := func(change func(*Options)) (*planner, error) {
		q := *p
		q.opts = o
		change(&q.opts)
		return &q, q.plan()
	}
	var all []func(*Options)
	var asked []string
	for _, c := range []struct {
		asked  bool
		flag   string
		change func(*Options)
		say    func(*MemoryPlan) string
	}{
		{p.opts.HostTier == swap.Pinned, "--host-tier", func(o *Options) { o.HostTier = "" },
			func(m *MemoryPlan) string {
				if m.HostTier == swap.Mixed {
					return "pin as many of the waiting blocks as there is room for: --host-tier mixed"
				}
				return "keep the blocks in the checkpoint file: --host-tier mapped"
			}},
		{p.opts.BlocksInMemory > 0 || !p.opts.Auto, "--blocks-in-memory", func(o *Options) { o.BlocksInMemory, o.StreamSlots = 0, 0 }, func(m *MemoryPlan) string {
			return fmt.Sprintf("keep fewer blocks on the device: --blocks-in-memory %d", m.Choice.BlocksInMemory)
		}},
		{p.opts.QwenLayersInMemory > 1, "--qwen-layers-in-memory", func(o *Options) { o.QwenLayersInMemory = 0 },
			func(m *MemoryPlan) string {
				return fmt.Sprintf("keep fewer layers of the text encoder on the device: --qwen-layers-in-memory %d", m.Choice.TextLayers)
			}},
		{p.opts.Linear == load.LinearInt8, "--linear int8", func(o *Options) { o.Linear = load.LinearFull },
			func(m *MemoryPlan) string {
				if m.HostTier == swap.Mapped {
					return "leave --linear int8 out, and blocks wait in the checkpoint file"
				}
				return "leave --linear int8 out"
			}},
	} {
		if !c.asked {
			continue
		}
		all, asked = append(all, c.change), append(asked, c.flag)
		if q, err := try(c.change); err != nil || q.out.Fits {
			return c.say(q.out), err
		}
	}
	if len(all) < 2 {
		return "", nil
	}
	q, err := try(func(o *Options) {
		for _, change := range all {
			change(o)
		}
	})
	if err != nil || !q.out.Fits {
		return "", err
	}
	return "leave out " + strings.Join(asked, ", "), nil
}

// shorter returns the most seconds of the same picture that fit, false where not even one does.
func (p *planner) shorter() (int, bool, error) {
	s := p.out.Settings
	fits := func(seconds int) (bool, error) {
		q := *p
		q.smallest = true
		var err error
		if s.Geometry, err = p.config.Geometry(seconds, s.Size); err != nil {
			return false, nil // not a length that the model makes
		}
		q.out = &MemoryPlan{Settings: s}
		err = q.plan()
		return q.out.Fits, err
	}
	low, high := 0, p.seconds // low fits or is none, high does not
	for high-low > 1 {
		middle := (low + high) / 2
		ok, err := fits(middle)
		if err != nil {
			return 0, false, err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	return low, low > 0, nil
}

// Error says by how much a plan does not fit and what would help; nil when it fits.
func (m *MemoryPlan) Error(limits PlanLimits) error {
	if m.Fits {
		return nil
	}
	text := fmt.Sprintf("%s of device memory are needed, %s may be used", memory.Size(m.Device), limitText(limits.Device))
	switch short := limits.Device > 0 && m.Device > limits.Device; {
	case short:
	case m.Short != "":
		text = m.Short
	default:
		text = fmt.Sprintf("%s of pinned host memory are needed, %s may be used", memory.Size(m.Pinned), limitText(limits.Host))
	}
	if m.Advice != "" {
		text += ": " + m.Advice
	}
	return fitError("the run does not fit: " + text)
}

// fitError is a broken budget that was seen before it was broken.
type fitError string

func (e fitError) Error() string { return string(e) }

// Is makes errors.Is(err, memory.ErrBudget) true.
func (e fitError) Is(target error) bool { return target == memory.ErrBudget }

func limitText(n int64) string {
	if n == 0 {
		return "any"
	}
	return memory.Size(n)
}
