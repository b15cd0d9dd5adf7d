package engine

// Way is one of several ways to compute an operation. Its name says what it is, "128x128x16", so that it can be kept in a
// file; Shader is the variant that computes it.
type Way struct{ Name, Shader string }

// Operation is an operation on operands that are there, as it is about to be recorded.
type Operation struct {
	Kernel, Shape string // by which a choice is kept; equal operations have equal ones
	Ways          []Way  // that this device can run
	Default       string // the way it takes by itself
	Cost          float64
	// Record records it in one of its ways. It may be called any number of times; the results of the last call stay.
	Record func(s *Stream, way string)
}

// Explorer is called with every operation that could be computed in several ways, on the goroutine that records it and
// before it is recorded. It may record, submit and wait, and set a choice.
type Explorer func(s *Stream, o Operation)

// Explore puts an explorer in force; nil takes it away.
func (t *Tuning) Explore(e Explorer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.explorer = e
	t.active.Store(e != nil || len(t.entries) > 0)
}

// Choose returns the way in which an operation shall be recorded, "" for its own default. Operations call it where they
// have several; describe is called only where someone has measured or is measuring.
func (s *Stream) Choose(describe func() Operation) string {
	t := s.device.tuning
	if !t.active.Load() || s.err != nil {
		return ""
	}
	o := describe()
	if len(o.Ways) < 2 {
		return ""
	}
	t.mu.RLock()
	explorer := t.explorer
	t.mu.RUnlock()
	if explorer != nil && s.note == nil {
		explorer(s, o)
	}
	return t.Choice(o.Kernel, o.Shape)
}
