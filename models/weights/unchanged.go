package weights

import (
	"fmt"
	"time"
)

// CheckUnchanged returns an error, one line that names the file, when it was written to since it was opened: its size or its time of
// change is another. A file that was replaced by another of its name is still there as it was, and is not meant. It costs one
// call of the system. Files in memory do not change.
func (f *File) CheckUnchanged() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.handle == nil || f.close == nil {
		return nil
	}
	now, err := f.handle.Stat()
	if err != nil {
		return fmt.Errorf("weights: %s: %w", f.path, err)
	}
	if was := f.opened; now.Size() != was.Size() || !now.ModTime().Equal(was.ModTime()) {
		what := "written to"
		if now.Size() < was.Size() {
			what = "truncated"
		}
		return fmt.Errorf("weights: %s was %s while it was used (%d bytes of %s, now %d of %s): put the file back as it was and continue the run, or begin it anew",
			f.path, what, was.Size(), was.ModTime().Format(time.DateTime), now.Size(), now.ModTime().Format(time.DateTime))
	}
	return nil
}
