package timeline

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// event is an entry of the Trace Event Format ("Trace Event Format", the Chromium project): X is a complete event, M names
// a thread. Times are µs.
type event struct {
	Name     string            `json:"name"`
	Category string            `json:"cat,omitempty"`
	Phase    string            `json:"ph"`
	Start    float64           `json:"ts"`
	Duration *float64          `json:"dur,omitempty"`
	Process  int               `json:"pid"`
	Thread   int               `json:"tid"`
	Args     map[string]string `json:"args,omitempty"`
}

func (k Kind) category() string {
	return [...]string{"block", "stall", "copy", "stage", "attention", "matmul", "other"}[k]
}

// WriteTrace writes rows as a JSON trace, each as a thread, beginning at time 0.
func WriteTrace(w io.Writer, rows []Row) error {
	b := bufio.NewWriter(w)
	from, _, _ := Bounds(rows)
	fmt.Fprint(b, `{"displayTimeUnit":"ms","traceEvents":[`)
	comma := ""
	put := func(e event) error {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(b, "%s\n%s", comma, text)
		comma = ","
		return err
	}
	if err := put(event{Name: "process_name", Phase: "M", Process: 1, Args: map[string]string{"name": "vkandinsky"}}); err != nil {
		return err
	}
	for k, r := range rows {
		if err := put(event{Name: "thread_name", Phase: "M", Process: 1, Thread: k + 1, Args: map[string]string{"name": r.Name}}); err != nil {
			return err
		}
		for _, i := range r.Intervals {
			took := (i.End - i.Start) / 1e3
			if err := put(event{Name: i.Label, Category: i.Kind.category(), Phase: "X", Start: (i.Start - from) / 1e3, Duration: &took, Process: 1, Thread: k + 1}); err != nil {
				return err
			}
		}
	}
	fmt.Fprint(b, "\n]}\n")
	return b.Flush()
}
