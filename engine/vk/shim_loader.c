#include "shim.h"

#include <stddef.h>

// Opens the Vulkan loader and returns vkGetInstanceProcAddr, or NULL. vulkan-go looks for "libvulkan.so", which only
// development packages install; users have "libvulkan.so.1".
#ifdef _WIN32
#include <windows.h>
void *shim_load(void) {
	HMODULE lib = LoadLibraryA("vulkan-1.dll");
	return lib ? (void *)GetProcAddress(lib, "vkGetInstanceProcAddr") : NULL;
}
#else
#include <dlfcn.h>
void *shim_load(void) {
	static const char *const names[] = {"libvulkan.so.1", "libvulkan.so", "libvulkan.1.dylib", "libMoltenVK.dylib"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
		if (lib)
			return dlsym(lib, "vkGetInstanceProcAddr");
	}
	return NULL;
}
#endif
