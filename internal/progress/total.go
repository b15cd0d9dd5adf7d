package progress

// Total corrects the number of steps of the stage, for work that learns it only after it has begun.
func (r *Reporter) Total(n int) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stage != nil {
		r.stage.total = max(n, 0)
	}
}
