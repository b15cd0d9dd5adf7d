package hostmem

import "testing"

func TestAvailableIsPlausible(t *testing.T) {
	free, ok := Available()
	if !ok {
		t.Skip("this system does not tell its free memory")
	}
	if free < 1<<20 || free > 1<<50 {
		t.Errorf("%d bytes available", free)
	}
}
