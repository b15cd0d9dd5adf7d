package oneline

import (
	"errors"
	"fmt"
	"testing"
)

func TestJoin(t *testing.T) {
	a, b := errors.New("a is broken"), errors.New("b is broken")
	wrapped := fmt.Errorf("step 3: %w", a)
	for _, c := range []struct {
		name string
		errs []error
		want string // "" for no error
	}{
		{"nothing is no error", nil, ""},
		{"nils are no error", []error{nil, nil}, ""},
		{"one is itself", []error{nil, a, nil}, "a is broken"},
		{"two are told in order", []error{a, nil, b}, "a is broken; b is broken"},
		{"what was said is not repeated", []error{wrapped, a, b, b}, "step 3: a is broken; b is broken"},
		{"joined ones nest", []error{Join(a, b), a}, "a is broken; b is broken"},
		{"lines become parts", []error{errors.Join(a, b), errors.New("one\r\n  two\n")}, "a is broken; b is broken; one; two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Join(c.errs...)
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			for _, e := range c.errs {
				if e != nil && !errors.Is(err, e) {
					t.Errorf("%v is not wrapped", e)
				}
			}
		})
	}
}
