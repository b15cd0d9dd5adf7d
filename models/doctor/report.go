package doctor

import (
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// Status says how an examination ended.
type Status string

// Statuses, from good to bad.
const (
	OK           Status = "ok"
	NotAvailable Status = "not available" // the device has none of it, or there was no time
	Warning      Status = "warning"       // it works, and something could be better
	Failed       Status = "failed"        // wrong numbers, an error, a crash
)

func (s Status) rank() int {
	return map[Status]int{OK: 0, NotAvailable: 1, Warning: 2, Failed: 3}[s]
}

// worse returns the worse of two statuses.
func worse(a, b Status) Status {
	if b.rank() > a.rank() {
		return b
	}
	return a
}

// Result is what one examination found.
type Result struct {
	Name    string        `json:"name"`
	Title   string        `json:"title"`
	Status  Status        `json:"status"`
	Summary string        `json:"summary"` // one line
	Facts   []Fact        `json:"facts,omitempty"`
	Advice  []string      `json:"advice,omitempty"` // what the user can do
	Took    time.Duration `json:"took_ns"`
	// Compiling is what of Took the driver needed to compile kernels, which it does once: they are kept in the cache folder.
	Compiling time.Duration `json:"compiling_ns,omitempty"`
	Skipped   []string      `json:"skipped,omitempty"` // kernels for which no time was left

	Tier     string        `json:"tier,omitempty"` // of Kernels
	Kernels  []Kernel      `json:"kernels,omitempty"`
	Copies   []Copy        `json:"copies,omitempty"`
	Pinned   []PinnedPoint `json:"pinned,omitempty"`
	Dispatch []Dispatch    `json:"dispatches,omitempty"`
}

// Fact is a line of detail.
type Fact struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// Kernel is a kernel compared with float64 and timed. Error is the relative L2 error, ‖got − want‖ / ‖want‖, of the shape
// of which it is largest.
type Kernel struct {
	Kernel  string   `json:"kernel"`
	Shape   string   `json:"shape"`  // of the timed run
	Shader  string   `json:"shader"` // the variant that did most of it: the way in which a run computes it too
	Seconds float64  `json:"seconds,omitempty"`
	Rate    float64  `json:"rate,omitempty"` // in Unit
	Unit    string   `json:"unit"`           // "TFLOP/s" or "GB/s"
	Error   finite   `json:"relative_error"`
	Limit   float64  `json:"limit"`
	Checks  []string `json:"checked"` // shapes
	Pass    bool     `json:"pass"`
	Problem string   `json:"problem,omitempty"`
	// Compiling is how long this kernel was waited for until it was compiled.
	Compiling time.Duration `json:"compiling_ns,omitempty"`
}

// finite is a number that may be NaN or infinite, which JSON has no words for: −1 stands for both.
type finite float64

// String prints it briefly.
func (f finite) String() string {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return "not a number"
	}
	return fmt.Sprintf("%.1e", float64(f))
}

// MarshalJSON implements json.Marshaler.
func (f finite) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) || math.IsInf(float64(f), 0) {
		return []byte("-1"), nil
	}
	return json.Marshal(float64(f))
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *finite) UnmarshalJSON(data []byte) error {
	var v float64
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	if v == -1 {
		v = math.NaN()
	}
	*f = finite(v)
	return nil
}

// Copy is a measured rate between host and device.
type Copy struct {
	Direction string  `json:"direction"` // "up" to the device, "down" to the host
	Beside    string  `json:"beside"`    // "nothing" or "computing"
	Bytes     int64   `json:"bytes"`     // of one copy
	Rate      float64 `json:"bytes_per_second"`
	// Slowdown of the computing beside it: 1.05 is 5 % longer. 0 beside nothing.
	Slowdown float64 `json:"compute_slowdown,omitempty"`
}

// PinnedPoint is a moment while pinned memory grew.
type PinnedPoint struct {
	Total   int64   `json:"total_bytes"`
	Seconds float64 `json:"seconds"` // that the last piece took to allocate and to touch
}

// Dispatch is the longest dispatch of an operation that the program records on this device.
type Dispatch struct {
	Kernel   string  `json:"kernel"`
	Cost     float64 `json:"operations"`
	Seconds  float64 `json:"seconds"`
	Measured bool    `json:"measured"` // else worked out from a smaller one, because it might be too long
}

// Host describes the machine.
type Host struct {
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	CPUs       int    `json:"cpus"`
	MemoryFree int64  `json:"memory_available_bytes,omitempty"`
}

// Report is everything that was found.
type Report struct {
	Program string    `json:"program"` // version
	Time    time.Time `json:"time"`
	Quick   bool      `json:"quick"`
	Host    Host      `json:"host"`
	Device  string    `json:"device"`
	Driver  string    `json:"driver"`
	API     string    `json:"api"`
	Kind    string    `json:"kind"`
	Tier    string    `json:"kernels"` // that the program takes by itself
	Status  Status    `json:"status"`
	Results []Result  `json:"results"`
	// Took is the time of all, and Compiling what of it went into compiling kernels.
	Took      time.Duration `json:"took_ns"`
	Compiling time.Duration `json:"compiling_ns"`
}

// Count returns how many results have a status.
func (r *Report) Count(s Status) (n int) {
	for _, result := range r.Results {
		if result.Status == s {
			n++
		}
	}
	return n
}

// Err is the error that the exit status follows from: nil unless an examination failed or none gave a result.
func (r *Report) Err() error {
	if len(r.Results) == 0 {
		return fmt.Errorf("nothing was examined")
	}
	failed := r.Count(Failed)
	if failed == 0 {
		return nil
	}
	for _, result := range r.Results {
		if result.Status == Failed {
			return fmt.Errorf("%d of %d examinations failed, the first: %s: %s", failed, len(r.Results), result.Title, result.Summary)
		}
	}
	return nil
}

// add appends results and keeps the report's status the worst of them.
func (r *Report) add(results ...Result) {
	r.Results = append(r.Results, results...)
	r.Status = OK
	for _, result := range r.Results {
		if result.Status != NotAvailable {
			r.Status = worse(r.Status, result.Status)
		}
	}
}

func (r *Result) fact(name, format string, args ...any) {
	r.Facts = append(r.Facts, Fact{name, fmt.Sprintf(format, args...)})
}

func (r *Result) advise(format string, args ...any) {
	r.Advice = append(r.Advice, fmt.Sprintf(format, args...))
}
