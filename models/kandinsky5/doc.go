// Package kandinsky5 generates videos with Kandinsky 5.0: it joins the text encoders, the diffusion transformer and the
// VAE into a pipeline, with transformer blocks swapped in from host memory.
//
// Open a checkpoint, open a device, make a Pipeline, and call Generate with a context and a progress callback; the
// examples show it. The rest of the package are the parts that Generate is made of: the sampler (Timesteps, Denoise),
// MagCache, and the memory plan of a run (PlanRun).
//
// Formulas are those of the reference implementation (kandinskylab/kandinsky-5); where this package differs the
// comment says so and why.
package kandinsky5
