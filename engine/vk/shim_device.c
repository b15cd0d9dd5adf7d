#include "shim.h"
#include "shim_types.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t waitCount;
	const H *waits;
	const uint32_t *waitStages;
	uint32_t commandCount;
	const H *commands;
	uint32_t signalCount;
	const H *signals;
} SubmitInfo;

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t waitCount;
	const uint64_t *waitValues;
	uint32_t signalCount;
	const uint64_t *signalValues;
} TimelineSubmit;

typedef struct {
	H buffer;
	uint64_t offset, range;
} DescriptorBuffer;

typedef struct {
	uint32_t sType;
	const void *pNext;
	H set;
	uint32_t binding, element, count, type;
	const void *image;
	const DescriptorBuffer *buffer;
	const void *texel;
} WriteDescriptor;

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t src, dst;
} MemoryBarrier;

struct shim_device {
	H device;
	VkR(VKCALL *createSemaphore)(H, const void *, const void *, H *);
	void(VKCALL *destroySemaphore)(H, H, const void *);
	VkR(VKCALL *semaphoreValue)(H, H, uint64_t *);
	VkR(VKCALL *waitSemaphores)(H, const void *, uint64_t);
	VkR(VKCALL *signalSemaphore)(H, const void *);
	VkR(VKCALL *queueSubmit)(H, uint32_t, const SubmitInfo *, H);
	VkR(VKCALL *begin)(H, const void *);
	void(VKCALL *barrier)(H, uint32_t, uint32_t, uint32_t, uint32_t, const MemoryBarrier *, uint32_t, const void *, uint32_t, const void *);
	void(VKCALL *copy)(H, H, H, uint32_t, const uint64_t *);
	void(VKCALL *fill)(H, H, uint64_t, uint64_t, uint32_t);
	void(VKCALL *timestamp)(H, uint32_t, H, uint32_t);
	void(VKCALL *resetQueries)(H, H, uint32_t, uint32_t);
	void(VKCALL *bindPipeline)(H, uint32_t, H);
	void(VKCALL *pushConstants)(H, H, uint32_t, uint32_t, uint32_t, const void *);
	void(VKCALL *pushDescriptors)(H, uint32_t, H, uint32_t, uint32_t, const WriteDescriptor *);
	void(VKCALL *updateDescriptors)(H, uint32_t, const WriteDescriptor *, uint32_t, const void *);
	void(VKCALL *bindDescriptors)(H, uint32_t, H, uint32_t, uint32_t, const H *, uint32_t, const uint32_t *);
	void(VKCALL *dispatch)(H, uint32_t, uint32_t, uint32_t);
	VkR(VKCALL *hostPointer)(H, uint32_t, const void *, void *);
	VkR(VKCALL *setName)(H, const void *);
	VkR(VKCALL *createComputePipelines)(H, H, uint32_t, const void *, const void *, H *);
};

shim_device *shim_device_new(void *gipa, void *instance, void *device, uint32_t push_descriptors, uint32_t debug_names) {
	GdpaFn get = (GdpaFn)((GipaFn)gipa)(instance, "vkGetDeviceProcAddr");
	shim_device *d = calloc(1, sizeof *d);
	if (!d || !get) {
		free(d);
		return NULL;
	}
	d->device = device;
	d->createSemaphore = (void *)get(device, "vkCreateSemaphore");
	d->destroySemaphore = (void *)get(device, "vkDestroySemaphore");
	d->semaphoreValue = (void *)get(device, "vkGetSemaphoreCounterValue");
	d->waitSemaphores = (void *)get(device, "vkWaitSemaphores");
	d->signalSemaphore = (void *)get(device, "vkSignalSemaphore");
	d->queueSubmit = (void *)get(device, "vkQueueSubmit");
	d->begin = (void *)get(device, "vkBeginCommandBuffer");
	d->barrier = (void *)get(device, "vkCmdPipelineBarrier");
	d->copy = (void *)get(device, "vkCmdCopyBuffer");
	d->fill = (void *)get(device, "vkCmdFillBuffer");
	d->timestamp = (void *)get(device, "vkCmdWriteTimestamp");
	d->resetQueries = (void *)get(device, "vkCmdResetQueryPool");
	d->bindPipeline = (void *)get(device, "vkCmdBindPipeline");
	d->pushConstants = (void *)get(device, "vkCmdPushConstants");
	d->updateDescriptors = (void *)get(device, "vkUpdateDescriptorSets");
	d->bindDescriptors = (void *)get(device, "vkCmdBindDescriptorSets");
	d->dispatch = (void *)get(device, "vkCmdDispatch");
	d->createComputePipelines = (void *)get(device, "vkCreateComputePipelines");
	if (push_descriptors)
		d->pushDescriptors = (void *)get(device, "vkCmdPushDescriptorSetKHR");
	d->hostPointer = (void *)get(device, "vkGetMemoryHostPointerPropertiesEXT");
	if (debug_names)
		d->setName = (void *)((GipaFn)gipa)(instance, "vkSetDebugUtilsObjectNameEXT");
	if (!d->waitSemaphores || !d->semaphoreValue || !d->signalSemaphore || (push_descriptors && !d->pushDescriptors)) {
		free(d);
		return NULL;
	}
	return d;
}

void shim_device_free(shim_device *d) { free(d); }

int32_t shim_pipeline_create(shim_device *d, void *cache, void *module, void *layout, uint32_t subgroup, const uint32_t *ids, const uint32_t *values, uint32_t count,
			     void **out) {
	struct entry {
		uint32_t id, offset;
		size_t size;
	} *entries = calloc(count ? count : 1, sizeof *entries);
	if (!entries)
		return -1; // VK_ERROR_OUT_OF_HOST_MEMORY
	for (uint32_t i = 0; i < count; i++)
		entries[i] = (struct entry){ids[i], 4 * i, 4};
	struct {
		uint32_t count;
		const void *entries;
		size_t size;
		const void *data;
	} special = {count, entries, 4 * (size_t)count, values};
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t size;
	} size = {ST_SUBGROUP_SIZE_REQUIRED, NULL, subgroup};
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t flags;
		struct {
			uint32_t sType;
			const void *pNext;
			uint32_t flags, stage;
			H module;
			const char *name;
			const void *special;
		} stage;
		H layout, base;
		int32_t baseIndex;
	} info = {29, NULL, 0, {18, subgroup ? &size : NULL, subgroup ? 2 /* full subgroups */ : 0, 0x20 /* compute */, module, "main", count ? &special : NULL}, layout, NULL, -1};
	VkR result = d->createComputePipelines(d->device, cache, 1, &info, NULL, out);
	free(entries);
	return result;
}

int32_t shim_timeline_create(shim_device *d, uint64_t initial, void **out) {
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t type;
		uint64_t initial;
	} type = {ST_SEMAPHORE_TYPE, NULL, 1 /* timeline */, initial};
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t flags;
	} info = {ST_SEMAPHORE_CREATE_INFO, &type, 0};
	return d->createSemaphore(d->device, &info, NULL, out);
}

void shim_timeline_destroy(shim_device *d, void *semaphore) { d->destroySemaphore(d->device, semaphore, NULL); }

int32_t shim_timeline_value(shim_device *d, void *semaphore, uint64_t *out) { return d->semaphoreValue(d->device, semaphore, out); }

int32_t shim_timeline_wait(shim_device *d, void *semaphore, uint64_t value, uint64_t timeout_ns) {
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t flags, count;
		const H *semaphores;
		const uint64_t *values;
	} info = {ST_SEMAPHORE_WAIT, NULL, 0, 1, &semaphore, &value};
	return d->waitSemaphores(d->device, &info, timeout_ns);
}

int32_t shim_timeline_signal(shim_device *d, void *semaphore, uint64_t value) {
	struct {
		uint32_t sType;
		const void *pNext;
		H semaphore;
		uint64_t value;
	} info = {ST_SEMAPHORE_SIGNAL, NULL, semaphore, value};
	return d->signalSemaphore(d->device, &info);
}

int32_t shim_submit(shim_device *d, void *queue, void *command, const shim_points *wait, const shim_points *signal) {
	uint32_t stages[SHIM_MAX_WAITS];
	for (uint32_t i = 0; i < wait->count; i++)
		stages[i] = 0x10000; // all commands
	TimelineSubmit timeline = {ST_TIMELINE_SUBMIT, NULL, wait->count, wait->value, signal->count, signal->value};
	SubmitInfo info = {ST_SUBMIT_INFO, &timeline, wait->count, wait->semaphore, stages, command ? 1 : 0, &command, signal->count, signal->semaphore};
	return d->queueSubmit(queue, 1, &info, NULL);
}

int32_t shim_begin(shim_device *d, void *command) {
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t flags;
		const void *inheritance;
	} info = {ST_COMMAND_BUFFER_BEGIN_INFO, NULL, 1 /* one time submit */, NULL};
	return d->begin(command, &info);
}

void shim_barrier(shim_device *d, void *command, uint32_t src_stage, uint32_t src_access, uint32_t dst_stage, uint32_t dst_access) {
	MemoryBarrier b = {ST_MEMORY_BARRIER, NULL, src_access, dst_access};
	d->barrier(command, src_stage, dst_stage, 0, 1, &b, 0, NULL, 0, NULL);
}

void shim_copy(shim_device *d, void *command, void *src, uint64_t src_offset, void *dst, uint64_t dst_offset, uint64_t size) {
	uint64_t region[3] = {src_offset, dst_offset, size};
	d->copy(command, src, dst, 1, region);
}

void shim_fill(shim_device *d, void *command, void *dst, uint64_t offset, uint64_t size, uint32_t word) { d->fill(command, dst, offset, size, word); }

void shim_timestamp(shim_device *d, void *command, uint32_t stage, void *pool, uint32_t query) { d->timestamp(command, stage, pool, query); }

void shim_reset_queries(shim_device *d, void *command, void *pool, uint32_t first, uint32_t count) { d->resetQueries(command, pool, first, count); }

void shim_record_dispatch(shim_device *d, void *command, const shim_dispatch *c) {
	DescriptorBuffer buffers[SHIM_MAX_BINDINGS];
	WriteDescriptor writes[SHIM_MAX_BINDINGS];
	for (uint32_t i = 0; i < c->count; i++) {
		buffers[i] = (DescriptorBuffer){c->buffer[i], c->offset[i], c->range[i]};
		writes[i] = (WriteDescriptor){ST_WRITE_DESCRIPTOR_SET, NULL, c->set, i, 0, 1, 7 /* storage buffer */, NULL, &buffers[i], NULL};
	}
	d->bindPipeline(command, 1, c->pipeline);
	if (c->set) {
		d->updateDescriptors(d->device, c->count, writes, 0, NULL);
		d->bindDescriptors(command, 1, c->layout, 0, 1, &c->set, 0, NULL);
	} else {
		d->pushDescriptors(command, 1, c->layout, 0, c->count, writes);
	}
	if (c->push_size)
		d->pushConstants(command, c->layout, 0x20, 0, c->push_size, c->push);
	d->dispatch(command, c->groups[0], c->groups[1], c->groups[2]);
}

int32_t shim_import_alignment(shim_device *d, void *pointer, uint32_t *memory_type_bits) {
	struct {
		uint32_t sType;
		void *pNext;
		uint32_t bits;
	} props = {ST_HOST_POINTER_PROPERTIES, NULL, 0};
	if (!d->hostPointer)
		return -7; // extension not present
	VkR r = d->hostPointer(d->device, 0x80 /* host allocation */, pointer, &props);
	*memory_type_bits = props.bits;
	return r;
}

void *shim_import_chain(void *pointer) {
	struct import {
		uint32_t sType;
		const void *pNext;
		uint32_t handleType;
		void *pointer;
	} *c = calloc(1, sizeof *c);
	if (c)
		*c = (struct import){ST_IMPORT_HOST_POINTER, NULL, 0x80, pointer};
	return c;
}

void shim_free(void *p) { free(p); }

void shim_name(shim_device *d, uint32_t type, void *handle, const char *name) {
	struct {
		uint32_t sType;
		const void *pNext;
		uint32_t type;
		uint64_t handle;
		const char *name;
	} info = {ST_DEBUG_NAME, NULL, type, (uint64_t)(uintptr_t)handle, name};
	if (d->setName)
		d->setName(d->device, &info);
}

void *shim_external_buffer_chain(void) {
	struct external {
		uint32_t sType;
		const void *pNext;
		uint32_t handleTypes;
	} *c = calloc(1, sizeof *c);
	if (c)
		*c = (struct external){1000072000, NULL, 0x80};
	return c;
}
