package bench

import (
	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
)

// Work is the floating-point operations of one forward pass of one branch; see kandinsky5.Work.
type Work = kandinsky5.Work

// WorkOf counts them; see kandinsky5.WorkOf.
func WorkOf(d *configs.DiTParams, tokens, textRows int) Work {
	return kandinsky5.WorkOf(d, tokens, textRows)
}
