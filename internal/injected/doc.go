// Package injected finds what other programs put between this one and its Vulkan driver: implicit layers, which the
// Vulkan loader loads into every program (overlays, capture, frame limiters), and hooks that are no layers at all.
//
// Vocabulary. A layer is described by a manifest, a JSON file. It is active when the environment does not keep the loader
// from taking it. A module is a shared library that is loaded into this process. Known is what is written down about a
// product, with where it is written.
//
// It reads manifests by the loader's rules (KhronosGroup/Vulkan-Loader, docs/LoaderLayerInterface.md) and touches no
// Vulkan, so it also works where loading Vulkan crashes. What it refuses to do: change anything, or judge a layer
// that nobody has written about.
package injected
