// Package configs reads and checks the yaml files that describe a Kandinsky 5.0 video model and how to sample
// from it, in the key structure of the published files ("kandinsky-5", configs/*.yaml).
//
// A Config is plain data: it opens no checkpoint and knows no device. The published presets are embedded, and that of the
// small model inside the program (tiny_i2v), so a preset's name works without the file. Everything the files can say wrongly (an unknown or repeated key, a wrong
// type, a value no model can have) is refused with an *Error that names file, line and key.
//
// Only video models are described. A configuration of the image models (flux VAE, t2i and i2i) is refused.
//
// All functions are safe for concurrent use; a Config is not changed by its methods.
package configs
