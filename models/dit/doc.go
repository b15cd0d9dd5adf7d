// Package dit is the diffusion transformer of Kandinsky 5: from latents, a prompt and a time it computes the velocity
// (kandinsky-5, kandinsky/models/dit.py and nn.py).
//
// Vocabulary. A Model holds the weights: what lies outside the blocks is resident, text and visual blocks come through
// package swap. A Pass is the model made ready for one size of video and a few prompts (with guidance two: the prompt
// and the negative prompt), with its activations and tables. Evaluate computes the velocities of all branches at one
// time; every block is brought to the device once for all of them. A branch is one prompt's pass through the blocks.
//
// Precision: see load.Precision. The residual stream is fp32 in both; operands of matrix products are bf16 in Mixed.
//
// Ownership: a Model frees its weights in Close, a Pass its activations in Close, passes before their model. Threads:
// one goroutine at a time.
package dit
