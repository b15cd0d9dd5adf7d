// Package qwen is Qwen2.5-VL: from token ids, and pictures among them, it computes the hidden state that conditions
// Kandinsky 5, and continues a text (huggingface/transformers, models/qwen2_5_vl/modeling_qwen2_5_vl.py).
//
// Vocabulary. A Model holds the decoder's layers, as many on the device as its options say; the others stream through
// package swap. A Prompt is a sequence of ids with the pictures that its image pads stand for. The hidden state of a
// prompt of L ids is [L, D], after the final norm; logits are [V] per row of it. The vision tower turns a picture of
// N patches into N/4 rows that take the place of image pads; its blocks are on the device one after the other, only
// while a picture is looked at. A cache holds the keys and values of a text that is being continued.
//
// The token embedding never goes to the device: the prompt's rows are read from the checkpoint. lm_head is read when
// logits are asked for, in pieces of rows.
//
// Precision: see load.Precision. The residual stream is fp32 in both; operands of matrix products are bf16 in Mixed.
// Rotary cos and sin stay fp32, where the reference rounds them to bf16 when it runs in that type.
//
// Ownership: a Model frees its weights in Close; tensors that its methods return belong to the caller. Threads: one
// goroutine at a time; and while a Model is open whose layers stream, nothing else may use the device's transfer
// stream.
package qwen
