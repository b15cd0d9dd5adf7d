// Package clip is the text tower of CLIP ViT-L/14: from token ids it computes the last hidden state and the pooled
// row that conditions Kandinsky 5 (huggingface/transformers, models/clip/modeling_clip.py).
//
// Vocabulary. A Model holds the weights, all of them on the device except the token embedding, of which only the
// prompt's rows are read. The hidden state is [L, D] for L ids, after the final norm; the pooled row is the one of
// the end token.
//
// Precision: see load.Precision. Activations are fp32 in both, as 77 rows cost nothing; in Mixed the weights are 16-bit
// and products may be fp16 with fp32 sums.
//
// Ownership: a Model frees its weights in Close; the tensor that Hidden returns belongs to the caller. Threads: one
// goroutine at a time.
package clip
