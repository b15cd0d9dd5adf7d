package progress

import (
	"fmt"
	"strings"
	"time"
)

// rate returns the time of one step, 0 while none is known.
func (s *stage) rate() time.Duration {
	n := s.done - s.from
	switch {
	case n == 0:
		return 0
	case n > 1 && !s.firstDone.IsZero():
		return s.lastDone.Sub(s.firstDone) / time.Duration(n-1)
	}
	return s.lastDone.Sub(s.begin) / time.Duration(n)
}

// left returns the time the stage still needs, negative while unknown.
func (s *stage) left(now time.Time) time.Duration {
	if s.done == s.from || s.total == 0 {
		return -1
	}
	return max(0, s.rate()*time.Duration(s.total-s.done)-now.Sub(s.lastDone))
}

// unlimited is the width of output that is no terminal.
const unlimited = -1

// text describes the running stage in at most width columns. Where room is short the bar
// goes first, then the less urgent numbers; the stage and its step stay, cut if need be.
func (s *stage) text(now time.Time, memory int64, width int) string {
	head := s.name
	if s.total > 0 {
		head += fmt.Sprintf(" %d/%d", min(s.done, s.total), s.total)
	} else if s.done > 0 {
		head += fmt.Sprintf(" %d", s.done)
	}
	var parts []string // most urgent first
	if s.note != "" {
		parts = append(parts, s.note)
	}
	if left := s.left(now); left >= 0 {
		parts = append(parts, clock(left)+" left")
	} else {
		parts = append(parts, clock(now.Sub(s.begin)))
	}
	if r := s.rate(); r > 0 {
		parts = append(parts, perStep(r))
	}
	if memory > 0 {
		parts = append(parts, size(memory))
	}
	if width == unlimited {
		return head + ": " + strings.Join(parts, ", ")
	}
	room := width - len([]rune(head))
	var tail string
	for _, p := range parts {
		if len([]rune(tail))+2+len([]rune(p)) > room {
			break
		}
		tail += "  " + p
	}
	if room < 0 {
		return string([]rune(head)[:width])
	}
	return head + s.bar(room-len([]rune(tail))) + tail
}

// bar draws how much is done in at most room columns, nothing when that is too little to see.
func (s *stage) bar(room int) string {
	const least, most, frame = 10, 30, 4 // frame: two blanks and two brackets
	n := min(most, room-frame)
	if s.total == 0 || n < least {
		return ""
	}
	full := n * min(s.done, s.total) / s.total
	return "  [" + strings.Repeat("#", full) + strings.Repeat("-", n-full) + "]"
}

// summary describes the finished stage.
func (s *stage) summary(now time.Time) string {
	text := s.name
	if s.done > 0 {
		text += fmt.Sprintf(" %d", s.done)
		if s.total > 0 {
			text += fmt.Sprintf("/%d", s.total)
		}
	}
	text += ": " + clock(now.Sub(s.begin))
	if r := s.rate(); r > 0 && s.done > 1 {
		text += ", " + perStep(r)
	}
	if s.peak > 0 {
		text += ", at most " + size(s.peak)
	}
	return text
}

// clock writes a duration as a person would say it.
func clock(d time.Duration) string {
	switch {
	case d < 10*time.Second-50*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 59500*time.Millisecond:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %02d s", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
}

func perStep(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms/step", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s/step", d.Seconds())
}

// size writes device memory in GiB, or MiB below one.
func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", (bytes+1<<19)>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}
