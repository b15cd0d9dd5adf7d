package memory

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// ErrBudget is what every BudgetError is.
var ErrBudget = errors.New("memory budget exceeded")

// BudgetError refuses an allocation that would break a budget.
type BudgetError struct {
	Kind                 Kind
	Label                string
	Wanted, Used, Budget int64   // bytes
	Owners               []Owner // largest first: who holds what now
}

func (e *BudgetError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s needs %s of %s memory, %s of the budget of %s are in use", e.Label, Size(e.Wanted), e.Kind, Size(e.Used), Size(e.Budget))
	for k, o := range e.Owners {
		if k == 3 {
			break
		}
		sep := ", "
		if k == 0 {
			sep = " ("
		}
		fmt.Fprintf(&b, "%s%s %s", sep, o.Label, Size(o.Bytes))
	}
	if len(e.Owners) > 0 {
		b.WriteString(")")
	}
	return b.String()
}

// Is makes errors.Is(err, ErrBudget) true.
func (e *BudgetError) Is(target error) bool { return target == ErrBudget }

// Owner is what one label holds.
type Owner struct {
	Kind  Kind   `json:"kind"`
	Label string `json:"label"`
	Bytes int64  `json:"bytes"`
	Count int    `json:"count"`
}

func sortOwners(owners []Owner) {
	sort.Slice(owners, func(i, j int) bool {
		if owners[i].Bytes != owners[j].Bytes {
			return owners[i].Bytes > owners[j].Bytes
		}
		return owners[i].Label < owners[j].Label
	})
}

// Size prints bytes as people read them: "584.1 MiB".
func Size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
