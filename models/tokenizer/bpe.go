package tokenizer

import "container/heap"

// endOfWord marks, in CLIP's vocabulary, symbols that end a word.
const endOfWord = "</w>"

// merge is what becomes of a pair of symbols. Lower ranks are merged first.
type merge struct {
	rank, id int32
}

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

// symbol is a node of the doubly linked list of a word's symbols; -1 ends the list. A dead symbol has id -1.
type symbol struct {
	id         int32
	prev, next int
}

// candidate is a pair that could be merged: the symbol at left with its successor.
type candidate struct {
	merge
	left        int
	first, then int32 // the ids when it was queued, to tell whether it is stale
}

// queue orders candidates by rank, then from left to right, as the reference does (huggingface/tokenizers,
// models/bpe/word.rs).
type queue []candidate

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].rank != q[j].rank {
		return q[i].rank < q[j].rank
	}
	return q[i].left < q[j].left
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(candidate)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// merge appends the ids of one word to ids. Time grows as n·log n with the word's bytes, because a word may be as
// long as the prompt.
func (t *Tokenizer) merge(ids []int32, word string) []int32 {
	symbols := make([]symbol, len(word))
	for i := range symbols {
		symbols[i] = symbol{t.bytes[0][word[i]], i - 1, i + 1}
	}
	last := len(symbols) - 1
	symbols[last].next = -1
	if t.kind == clip {
		symbols[last].id = t.bytes[1][word[last]]
	}
	q := make(queue, 0, len(symbols))
	push := func(left int) {
		if left < 0 || symbols[left].next < 0 {
			return
		}
		a, b := symbols[left].id, symbols[symbols[left].next].id
		if m, ok := t.merges[pairKey(a, b)]; ok {
			heap.Push(&q, candidate{m, left, a, b})
		}
	}
	for i := range symbols {
		push(i)
	}
	for q.Len() > 0 {
		c := heap.Pop(&q).(candidate)
		right := symbols[c.left].next
		if symbols[c.left].id != c.first || right < 0 || symbols[right].id != c.then {
			continue
		}
		symbols[c.left].id, symbols[c.left].next = c.id, symbols[right].next
		if next := symbols[right].next; next >= 0 {
			symbols[next].prev = c.left
		}
		symbols[right].id = -1
		push(symbols[c.left].prev)
		push(c.left)
	}
	for i := 0; i >= 0; i = symbols[i].next {
		ids = append(ids, symbols[i].id)
	}
	return ids
}
