//go:build !linux && !windows

package injected

// Modules lists nothing where it is not known how.
func Modules() []string { return nil }

func registered() []string { return nil }
