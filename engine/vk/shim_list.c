#include "shim.h"
#include "shim_types.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
	char name[256];
	uint32_t spec, implementation;
	char description[256];
} Layer;

typedef struct {
	char name[256];
	uint32_t spec;
} Extension;

typedef struct {
	uint32_t flags, count, timestampBits, granularity[3];
} Family;

static uint32_t copy_extensions(const Extension *all, uint32_t n, shim_named *out, uint32_t cap) {
	for (uint32_t i = 0; i < n && i < cap; i++) {
		memcpy(out[i].name, all[i].name, 256);
		out[i].version = all[i].spec;
	}
	return n;
}

uint32_t shim_layers(void *gipa, shim_named *out, uint32_t cap) {
	VkR(VKCALL * fn)(uint32_t *, Layer *) = (void *)((GipaFn)gipa)(NULL, "vkEnumerateInstanceLayerProperties");
	uint32_t n = 0;
	if (!fn || fn(&n, NULL) != 0 || n == 0)
		return 0;
	Layer *all = calloc(n, sizeof *all);
	if (!all)
		return 0;
	fn(&n, all);
	for (uint32_t i = 0; i < n && i < cap; i++) {
		memcpy(out[i].name, all[i].name, 256);
		out[i].version = all[i].spec;
	}
	free(all);
	return n;
}

uint32_t shim_layer_extensions(void *gipa, const char *layer, shim_named *out, uint32_t cap) {
	VkR(VKCALL * fn)(const char *, uint32_t *, Extension *) = (void *)((GipaFn)gipa)(NULL, "vkEnumerateInstanceExtensionProperties");
	uint32_t n = 0;
	if (!fn || fn(layer, &n, NULL) != 0 || n == 0)
		return 0;
	Extension *all = calloc(n, sizeof *all);
	if (!all)
		return 0;
	fn(layer, &n, all);
	copy_extensions(all, n, out, cap);
	free(all);
	return n;
}

uint32_t shim_device_extensions(void *gipa, void *instance, void *physical, shim_named *out, uint32_t cap) {
	VkR(VKCALL * fn)(H, const char *, uint32_t *, Extension *) = (void *)((GipaFn)gipa)(instance, "vkEnumerateDeviceExtensionProperties");
	uint32_t n = 0;
	if (!fn || fn(physical, NULL, &n, NULL) != 0 || n == 0)
		return 0;
	Extension *all = calloc(n, sizeof *all);
	if (!all)
		return 0;
	fn(physical, NULL, &n, all);
	copy_extensions(all, n, out, cap);
	free(all);
	return n;
}

uint32_t shim_families(void *gipa, void *instance, void *physical, shim_family *out, uint32_t cap) {
	void(VKCALL * fn)(H, uint32_t *, Family *) = (void *)((GipaFn)gipa)(instance, "vkGetPhysicalDeviceQueueFamilyProperties");
	uint32_t n = 0;
	if (!fn)
		return 0;
	fn(physical, &n, NULL);
	Family *all = calloc(n ? n : 1, sizeof *all);
	if (!all)
		return 0;
	fn(physical, &n, all);
	for (uint32_t i = 0; i < n && i < cap; i++)
		out[i] = (shim_family){all[i].flags, all[i].count, all[i].timestampBits};
	free(all);
	return n;
}
