// Package lora reads low-rank adapters (LoRA) of the transformer and merges them into its weights as they are read.
//
// An adapter changes the matrix W of a module to W + weight·scale·B·A, where A [rank, in] and B [out, rank] are its two
// factors, scale comes from its file (alpha/rank) and weight from the user. A Set is the adapters that are applied
// together: their effects add up. Set.Reader stands between a checkpoint and whoever reads it, so that nothing behind it need
// know of adapters: wherever blocks lie and whenever they are read again, their bytes are the same. Blocks that are read in
// every step may ask for the factors instead and leave the sum to the device (load.Adapted).
//
// Ownership: adapters are views into mapped files, that Set.Close unmaps; no reader of the set may be used after that.
//
// Threads: everything but Close may be used concurrently.
//
// Refused: tensors that are no part of a plain LoRA of a matrix (DoRA, LoKr, LoHa, biases, whole modules; see kindOf), because
// leaving them out would give other pictures than the adapter was made for.
package lora
