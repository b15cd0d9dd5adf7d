package load

import "fmt"

// Attention says how the self-attention of the transformer's visual blocks is computed.
type Attention int

// Kinds of attention. AttentionOwn is this program's kernels as the precision says. AttentionSage computes scores from queries and keys that are
// rounded to signed bytes (ops.AttentionArgs.Int8), as SageAttention does.
const (
	AttentionOwn Attention = iota
	AttentionSage
)

func (a Attention) String() string { return [...]string{"auto", "sage"}[a] }

// ParseAttention reads the name of an engine as the reference program knows them: those that compute with 16-bit scores all mean AttentionOwn. So does
// no name.
func ParseAttention(s string) (Attention, error) {
	switch s {
	case "", "auto", "sdpa", "flash_attention_2", "flash_attention_3":
		return AttentionOwn, nil
	case "sage":
		return AttentionSage, nil
	}
	return 0, fmt.Errorf("unknown attention %.40q: use auto, sdpa, flash_attention_2, flash_attention_3 or sage", s)
}
