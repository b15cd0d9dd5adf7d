// Package weights reads, checks and writes model checkpoints.
//
// A File is one safetensors or GGUF file, memory-mapped. A Checkpoint is the tensors of one network, which may lie in
// one file or in several with an index. A Layout says where the networks of a whole model lie on disk. A Spec
// lists the tensors a network must have, from its configuration; Check compares a Checkpoint with it. Synth
// writes a model of random weights in the published layout.
//
// A tensor may be coded: fp8 or int8 with scales in a tensor of their own (Checkpoint joins the two under the name that
// the network knows), or records of ggml. Whoever reads values (ConvertTo, CheckFinite, Float32s) gets them decoded.
//
// Ownership: Tensor.Data is a view into the mapping of its File and dies with File.Close (or Checkpoint.Close);
// touching it afterwards crashes the program. Whoever opens a File or Checkpoint closes it, once its last view is
// out of use; closing twice is harmless.
//
// Threads: everything but Close and the Writer may be used concurrently.
//
// Limits: little-endian hosts and files only matter in bytes, never in host order, so any host works; a header
// may be 100 MB at most, as in the published format; of ggml's K-quants the larger ones are read, and what else it has is refused. A mapped
// file that shrinks or a disk that fails under a running read is reported as an error by the functions of this
// package that read data (ConvertTo, CheckFinite, CopyTo, Float32s), but not to code that reads Data directly.
package weights
