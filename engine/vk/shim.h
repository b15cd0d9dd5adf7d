// What vulkan-go (headers 1.1.88) lacks: the loader entry point, Vulkan 1.2 timelines and feature structs, newer
// device queries, and the calls of the hot path, which are made here without allocating.
//
// The declarations below are the few structures this file needs, written out from the Vulkan specification, so that
// building needs no Vulkan headers. Handles travel as void*; Vulkan on a 64-bit machine has no other kind.
#ifndef VKANDINSKY_SHIM_H
#define VKANDINSKY_SHIM_H

#include <stdint.h>

typedef struct shim_device shim_device;

void *shim_load(void);

// Lists of names and queue families. vulkan-go ties the C memory of such lists to a finalizer that may run during the
// call, so they are asked for here. Each returns how many there are and writes at most cap of them.
typedef struct {
	char name[256];
	uint32_t version;
} shim_named;
typedef struct {
	uint32_t flags, count, timestamp_bits;
} shim_family;
uint32_t shim_layers(void *gipa, shim_named *out, uint32_t cap);
uint32_t shim_layer_extensions(void *gipa, const char *layer, shim_named *out, uint32_t cap);
uint32_t shim_device_extensions(void *gipa, void *instance, void *physical, shim_named *out, uint32_t cap);
uint32_t shim_families(void *gipa, void *instance, void *physical, shim_family *out, uint32_t cap);

// Instance level.
void *shim_instance_chain(uint32_t with_layer_settings);
void shim_instance_chain_free(void *chain);
typedef struct shim_messages shim_messages;
shim_messages *shim_messages_new(void *gipa, void *instance);
void shim_messages_free(shim_messages *m);
// Copies the n-th message since creation into out (cut to cap); returns its severity, 0 when there is no such message.
uint32_t shim_messages_get(shim_messages *m, uint32_t n, char *out, uint32_t cap);

typedef struct {
	uint32_t api_version, driver_version, vendor_id, device_id, device_type;
	char name[256];
	char driver_name[256];
	char driver_info[256];
	uint8_t device_uuid[16];
	uint8_t driver_uuid[16];
	uint32_t subgroup_size, subgroup_operations;
	uint64_t max_allocation;
	uint32_t max_push_descriptors;
	uint64_t import_alignment;
	// features
	uint32_t timeline, storage16, uniform16, storage8, float16, int8, int16, int64, scalar_layout, memory_model, full_subgroups, cooperative_matrix, cooperative_matrix2_flexible,
	    cooperative_matrix2_workgroup, cooperative_matrix2_tensor, cooperative_matrix2_block_loads, cooperative_matrix2_conversions, cooperative_matrix2_reductions,
	    cooperative_matrix2_per_element, bfloat16, bfloat16_matrix, maintenance4;
	// VK_NV_cooperative_matrix2: invocations of a workgroup, a matrix's largest dimension, bytes of a workgroup's shared memory
	uint32_t matrix2_max_workgroup, matrix2_max_dimension, matrix2_reserved_shared;
} shim_properties;

// Asks only for what the extensions say is there. ext bits are SHIM_EXT_*.
enum {
	SHIM_EXT_PUSH_DESCRIPTOR = 1,
	SHIM_EXT_MEMORY_BUDGET = 2,
	SHIM_EXT_HOST_MEMORY = 4,
	SHIM_EXT_COOPMAT = 8,
	SHIM_EXT_COOPMAT2 = 16,
	SHIM_EXT_BFLOAT16 = 32,
	SHIM_EXT_MEMORY_PRIORITY = 64,
	SHIM_EXT_SUBGROUP_SIZE = 128,
	SHIM_EXT_MAINTENANCE4 = 256,
};
void shim_get_properties(void *gipa, void *instance, void *physical, uint32_t ext, shim_properties *out);

typedef struct {
	uint64_t budget[16], usage[16];
} shim_budget;
int shim_get_budget(void *gipa, void *instance, void *physical, shim_budget *out);

typedef struct {
	uint32_t m, n, k, a, b, c, result, saturating, scope;
} shim_matrix;
uint32_t shim_get_matrices(void *gipa, void *instance, void *physical, shim_matrix *out, uint32_t cap);
typedef struct {
	uint32_t m_granularity, n_granularity, k_granularity, a, b, c, result, saturating, scope, invocations;
} shim_flexible_matrix;
uint32_t shim_get_flexible_matrices(void *gipa, void *instance, void *physical, shim_flexible_matrix *out, uint32_t cap);

// The chain of feature structures for vkCreateDevice, in C memory.
void *shim_feature_chain(uint32_t ext, const shim_properties *p);
void shim_feature_chain_free(void *chain);

// Device level.
shim_device *shim_device_new(void *gipa, void *instance, void *device, uint32_t push_descriptors, uint32_t debug_names);
void shim_device_free(shim_device *d);

int32_t shim_timeline_create(shim_device *d, uint64_t initial, void **out);
void shim_timeline_destroy(shim_device *d, void *semaphore);
int32_t shim_timeline_value(shim_device *d, void *semaphore, uint64_t *out);
int32_t shim_timeline_wait(shim_device *d, void *semaphore, uint64_t value, uint64_t timeout_ns);
int32_t shim_timeline_signal(shim_device *d, void *semaphore, uint64_t value);

// Compiles a compute pipeline. Not through vulkan-go: it gives the C copies of slices of structures (the
// specialization constants among them) to a finalizer that may free them while the driver still compiles.
// subgroup, if not 0, asks for full subgroups of that size.
int32_t shim_pipeline_create(shim_device *d, void *cache, void *module, void *layout, uint32_t subgroup, const uint32_t *ids, const uint32_t *values, uint32_t count,
			     void **out);

#define SHIM_MAX_WAITS 8
typedef struct {
	void *semaphore[SHIM_MAX_WAITS];
	uint64_t value[SHIM_MAX_WAITS];
	uint32_t count;
} shim_points;
int32_t shim_submit(shim_device *d, void *queue, void *command, const shim_points *wait, const shim_points *signal);

int32_t shim_begin(shim_device *d, void *command);
void shim_barrier(shim_device *d, void *command, uint32_t src_stage, uint32_t src_access, uint32_t dst_stage, uint32_t dst_access);
void shim_copy(shim_device *d, void *command, void *src, uint64_t src_offset, void *dst, uint64_t dst_offset, uint64_t size);
void shim_fill(shim_device *d, void *command, void *dst, uint64_t offset, uint64_t size, uint32_t word);
void shim_timestamp(shim_device *d, void *command, uint32_t stage, void *pool, uint32_t query);
void shim_reset_queries(shim_device *d, void *command, void *pool, uint32_t first, uint32_t count);

#define SHIM_MAX_BINDINGS 16
typedef struct {
	void *buffer[SHIM_MAX_BINDINGS];
	uint64_t offset[SHIM_MAX_BINDINGS], range[SHIM_MAX_BINDINGS];
	uint32_t count;
	uint8_t push[128];
	uint32_t push_size;
	uint32_t groups[3];
	void *pipeline, *layout;
	void *set; // a descriptor set to write and bind, or NULL to push descriptors
} shim_dispatch;
void shim_record_dispatch(shim_device *d, void *command, const shim_dispatch *c);

int32_t shim_import_alignment(shim_device *d, void *pointer, uint32_t *memory_type_bits);
void *shim_import_chain(void *pointer);
void *shim_external_buffer_chain(void);
void shim_free(void *p);
void shim_name(shim_device *d, uint32_t type, void *handle, const char *name);

#endif
