#include "shim.h"
#include "shim_types.h"

#include <stdlib.h>
#include <string.h>

// ---- the validation layer ----

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t enabledCount;
	const uint32_t *enabled;
	uint32_t disabledCount;
	const uint32_t *disabled;
} ValidationFeatures;

typedef struct {
	const char *layer, *name;
	uint32_t type, count;
	const void *values;
} LayerSetting;

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t count;
	const LayerSetting *settings;
} LayerSettings;

typedef struct {
	ValidationFeatures features;
	uint32_t enabled[1];
	LayerSettings settings;
	LayerSetting setting[3];
	VkB32 yes;
} InstanceChain;

// Turns on synchronization validation: by VK_EXT_validation_features for layers up to 1.3, and by layer settings for
// current ones, which follow shader accesses and timeline semaphores only when told to.
void *shim_instance_chain(uint32_t with_layer_settings) {
	InstanceChain *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	static const char *const names[3] = {"validate_sync", "syncval_shader_accesses_heuristic", "syncval_full_validation"};
	c->yes = 1;
	for (int i = 0; i < 3; i++)
		c->setting[i] = (LayerSetting){"VK_LAYER_KHRONOS_validation", names[i], 0, 1, &c->yes};
	c->settings = (LayerSettings){ST_LAYER_SETTINGS, NULL, 3, c->setting};
	c->enabled[0] = 4; // VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
	c->features = (ValidationFeatures){ST_VALIDATION_FEATURES, with_layer_settings ? &c->settings : NULL, 1, c->enabled, 0, NULL};
	return c;
}

void shim_instance_chain_free(void *chain) { free(chain); }

// ---- messages ----

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t flags;
	const char *idName;
	int32_t id;
	const char *message;
} CallbackData;

typedef VkB32(VKCALL *MessageFn)(uint32_t severity, uint32_t type, const CallbackData *data, void *user);

typedef struct {
	uint32_t sType;
	const void *pNext;
	uint32_t flags, severities, types;
	MessageFn callback;
	void *user;
} MessengerInfo;

// Messages are kept in C memory because the layer may call from any thread in the middle of a Vulkan call.
#define MESSAGE_CAP 256
struct shim_messages {
	H instance, messenger;
	void(VKCALL *destroy)(H, H, const void *);
	volatile int lock;
	uint32_t count;
	uint32_t severity[MESSAGE_CAP];
	char *text[MESSAGE_CAP];
};

static void lock(volatile int *l) {
	while (__sync_lock_test_and_set(l, 1)) {
	}
}
static void unlock(volatile int *l) { __sync_lock_release(l); }

static VkB32 VKCALL on_message(uint32_t severity, uint32_t type, const CallbackData *data, void *user) {
	(void)type;
	shim_messages *m = user;
	lock(&m->lock);
	if (m->count < MESSAGE_CAP) {
		const char *text = data->message ? data->message : "";
		size_t n = strlen(text) + 1;
		char *copy = malloc(n);
		if (copy) {
			memcpy(copy, text, n);
			m->severity[m->count] = severity;
			m->text[m->count++] = copy;
		}
	}
	unlock(&m->lock);
	return 0;
}

shim_messages *shim_messages_new(void *gipa, void *instance) {
	GipaFn get = (GipaFn)gipa;
	VkR(VKCALL * create)(H, const MessengerInfo *, const void *, H *) = (void *)get(instance, "vkCreateDebugUtilsMessengerEXT");
	if (!create)
		return NULL;
	shim_messages *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->instance = instance;
	m->destroy = (void *)get(instance, "vkDestroyDebugUtilsMessengerEXT");
	MessengerInfo info = {ST_DEBUG_MESSENGER, NULL, 0, 0x1100 /* warning, error */, 0x7, on_message, m};
	if (create(instance, &info, NULL, &m->messenger) != 0) {
		free(m);
		return NULL;
	}
	return m;
}

void shim_messages_free(shim_messages *m) {
	if (!m)
		return;
	m->destroy(m->instance, m->messenger, NULL);
	for (uint32_t i = 0; i < m->count; i++)
		free(m->text[i]);
	free(m);
}

uint32_t shim_messages_get(shim_messages *m, uint32_t n, char *out, uint32_t cap) {
	uint32_t severity = 0;
	lock(&m->lock);
	if (n < m->count) {
		severity = m->severity[n];
		strncpy(out, m->text[n], cap - 1);
		out[cap - 1] = 0;
	}
	unlock(&m->lock);
	return severity;
}

// ---- physical devices ----

static void push(void *chain, void *item) {
	((Base *)item)->pNext = ((Base *)chain)->pNext;
	((Base *)chain)->pNext = item;
}

void shim_get_properties(void *gipa, void *instance, void *physical, uint32_t ext, shim_properties *out) {
	GipaFn get = (GipaFn)gipa;
	void(VKCALL * props)(H, void *) = (void *)get(instance, "vkGetPhysicalDeviceProperties2");
	void(VKCALL * feats)(H, void *) = (void *)get(instance, "vkGetPhysicalDeviceFeatures2");
	memset(out, 0, sizeof *out);
	if (!props || !feats)
		return;
	Properties2 p = {.sType = ST_PROPERTIES2};
	V11Properties p11 = {.sType = ST_V11_PROPERTIES};
	V12Properties p12 = {.sType = ST_V12_PROPERTIES};
	PushDescriptorProperties pd = {.sType = ST_PUSH_DESCRIPTOR_PROPERTIES};
	HostMemoryProperties hm = {.sType = ST_HOST_MEMORY_PROPERTIES};
	SubgroupSizeProperties ss = {.sType = ST_SUBGROUP_SIZE_PROPERTIES};
	Coopmat2Properties c2 = {.sType = ST_COOPMAT2_PROPERTIES};
	push(&p, &p11);
	push(&p, &p12);
	if (ext & SHIM_EXT_PUSH_DESCRIPTOR)
		push(&p, &pd);
	if (ext & SHIM_EXT_HOST_MEMORY)
		push(&p, &hm);
	if (ext & SHIM_EXT_SUBGROUP_SIZE)
		push(&p, &ss);
	if (ext & SHIM_EXT_COOPMAT2)
		push(&p, &c2);
	props(physical, &p);
	out->api_version = p.apiVersion;
	out->driver_version = p.driverVersion;
	out->vendor_id = p.vendorID;
	out->device_id = p.deviceID;
	out->device_type = p.deviceType;
	memcpy(out->name, p.deviceName, 256);
	memcpy(out->driver_name, p12.driverName, 256);
	memcpy(out->driver_info, p12.driverInfo, 256);
	memcpy(out->device_uuid, p11.deviceUUID, 16);
	memcpy(out->driver_uuid, p11.driverUUID, 16);
	out->subgroup_size = p11.subgroupSize;
	out->subgroup_operations = p11.subgroupOperations;
	out->max_allocation = p11.maxMemoryAllocationSize;
	out->max_push_descriptors = pd.maxPushDescriptors;
	out->import_alignment = hm.minImportedHostPointerAlignment;
	out->matrix2_max_workgroup = c2.maxWorkgroup;
	out->matrix2_max_dimension = c2.maxDimension;
	out->matrix2_reserved_shared = c2.reservedShared;

	Features2 f = {.sType = ST_FEATURES2};
	V11Features f11 = {.sType = ST_V11_FEATURES};
	V12Features f12 = {.sType = ST_V12_FEATURES};
	CoopmatFeatures cm = {.sType = ST_COOPMAT_FEATURES};
	Coopmat2Features cm2 = {.sType = ST_COOPMAT2_FEATURES};
	Bfloat16Features bf = {.sType = ST_BFLOAT16_FEATURES};
	SubgroupSizeFeatures sf = {.sType = ST_SUBGROUP_SIZE_FEATURES};
	Maintenance4Features m4 = {.sType = ST_MAINTENANCE4_FEATURES};
	push(&f, &f11);
	push(&f, &f12);
	if (ext & SHIM_EXT_COOPMAT)
		push(&f, &cm);
	if (ext & SHIM_EXT_COOPMAT2)
		push(&f, &cm2);
	if (ext & SHIM_EXT_BFLOAT16)
		push(&f, &bf);
	if (ext & SHIM_EXT_SUBGROUP_SIZE)
		push(&f, &sf);
	if (ext & SHIM_EXT_MAINTENANCE4)
		push(&f, &m4);
	feats(physical, &f);
	out->timeline = f12.timelineSemaphore;
	out->storage16 = f11.storageBuffer16;
	out->uniform16 = f11.uniform16;
	out->storage8 = f12.storageBuffer8BitAccess;
	out->float16 = f12.shaderFloat16;
	out->int8 = f12.shaderInt8;
	out->int64 = f.features[40];
	out->int16 = f.features[41];
	out->scalar_layout = f12.scalarBlockLayout;
	out->memory_model = f12.vulkanMemoryModel;
	// Pipelines ask for the size that subgroup_size names: it must be one that they may ask for.
	out->full_subgroups = sf.control && sf.full && (ss.stages & 0x20 /* compute */) && ss.min <= p11.subgroupSize && p11.subgroupSize <= ss.max;
	out->cooperative_matrix = cm.matrix;
	out->cooperative_matrix2_flexible = cm2.flexibleDimensions;
	out->cooperative_matrix2_workgroup = cm2.workgroupScope;
	out->cooperative_matrix2_tensor = cm2.tensorAddressing;
	out->cooperative_matrix2_block_loads = cm2.blockLoads;
	out->cooperative_matrix2_conversions = cm2.conversions;
	out->cooperative_matrix2_reductions = cm2.reductions;
	out->cooperative_matrix2_per_element = cm2.perElement;
	out->bfloat16 = bf.type;
	out->bfloat16_matrix = bf.matrix;
	out->maintenance4 = m4.maintenance4;
}

int shim_get_budget(void *gipa, void *instance, void *physical, shim_budget *out) {
	struct {
		uint32_t sType;
		void *pNext;
		uint64_t budget[16], usage[16];
	} b = {.sType = ST_MEMORY_BUDGET};
	struct {
		uint32_t sType;
		void *pNext;
		uint8_t memory[1024];
	} m = {.sType = ST_MEMORY_PROPERTIES2, .pNext = &b};
	void(VKCALL * fn)(H, void *) = (void *)((GipaFn)gipa)(instance, "vkGetPhysicalDeviceMemoryProperties2");
	if (!fn)
		return 0;
	fn(physical, &m);
	memcpy(out->budget, b.budget, sizeof b.budget);
	memcpy(out->usage, b.usage, sizeof b.usage);
	return 1;
}

uint32_t shim_get_matrices(void *gipa, void *instance, void *physical, shim_matrix *out, uint32_t cap) {
	VkR(VKCALL * fn)(H, uint32_t *, CoopmatProperties *) = (void *)((GipaFn)gipa)(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
	uint32_t n = 0;
	if (!fn || fn(physical, &n, NULL) != 0 || n == 0)
		return 0;
	CoopmatProperties *all = calloc(n, sizeof *all);
	if (!all)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		all[i].sType = ST_COOPMAT_PROPERTIES;
	fn(physical, &n, all);
	if (n > cap)
		n = cap;
	for (uint32_t i = 0; i < n; i++)
		out[i] = (shim_matrix){all[i].m, all[i].n, all[i].k, all[i].a, all[i].b, all[i].c, all[i].result, all[i].saturating, all[i].scope};
	free(all);
	return n;
}

uint32_t shim_get_flexible_matrices(void *gipa, void *instance, void *physical, shim_flexible_matrix *out, uint32_t cap) {
	VkR(VKCALL * fn)(H, uint32_t *, Coopmat2Flexible *) =
	    (void *)((GipaFn)gipa)(instance, "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV");
	uint32_t n = 0;
	if (!fn || fn(physical, &n, NULL) != 0 || n == 0)
		return 0;
	Coopmat2Flexible *all = calloc(n, sizeof *all);
	if (!all)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		all[i].sType = ST_COOPMAT2_FLEXIBLE;
	fn(physical, &n, all);
	if (n > cap)
		n = cap;
	for (uint32_t i = 0; i < n; i++)
		out[i] = (shim_flexible_matrix){all[i].mg,     all[i].ng,         all[i].kg,    all[i].a,          all[i].b, all[i].c,
						all[i].result, all[i].saturating, all[i].scope, all[i].invocations};
	free(all);
	return n;
}

typedef struct {
	V11Features v11;
	V12Features v12;
	CoopmatFeatures cm;
	Coopmat2Features cm2;
	Bfloat16Features bf;
	SubgroupSizeFeatures sf;
	Maintenance4Features m4;
} FeatureChain;

void *shim_feature_chain(uint32_t ext, const shim_properties *p) {
	FeatureChain *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->v11 = (V11Features){.sType = ST_V11_FEATURES, .pNext = &c->v12, .storageBuffer16 = p->storage16, .uniform16 = p->uniform16};
	c->v12 = (V12Features){.sType = ST_V12_FEATURES,
			       .storageBuffer8BitAccess = p->storage8,
			       .shaderFloat16 = p->float16,
			       .shaderInt8 = p->int8,
			       .scalarBlockLayout = p->scalar_layout,
			       .timelineSemaphore = 1,
			       .vulkanMemoryModel = p->memory_model};
	if (ext & SHIM_EXT_COOPMAT && p->cooperative_matrix) {
		c->cm = (CoopmatFeatures){.sType = ST_COOPMAT_FEATURES, .matrix = 1};
		push(&c->v12, &c->cm);
	}
	if (ext & SHIM_EXT_COOPMAT2) {
		c->cm2 = (Coopmat2Features){.sType = ST_COOPMAT2_FEATURES,
					    .workgroupScope = p->cooperative_matrix2_workgroup,
					    .flexibleDimensions = p->cooperative_matrix2_flexible,
					    .reductions = p->cooperative_matrix2_reductions,
					    .conversions = p->cooperative_matrix2_conversions,
					    .perElement = p->cooperative_matrix2_per_element,
					    .tensorAddressing = p->cooperative_matrix2_tensor,
					    .blockLoads = p->cooperative_matrix2_block_loads};
		push(&c->v12, &c->cm2);
	}
	if (ext & SHIM_EXT_BFLOAT16 && p->bfloat16) {
		c->bf = (Bfloat16Features){.sType = ST_BFLOAT16_FEATURES, .type = 1, .matrix = p->bfloat16_matrix};
		push(&c->v12, &c->bf);
	}
	if (ext & SHIM_EXT_SUBGROUP_SIZE && p->full_subgroups) {
		c->sf = (SubgroupSizeFeatures){.sType = ST_SUBGROUP_SIZE_FEATURES, .control = 1, .full = 1};
		push(&c->v12, &c->sf);
	}
	if (ext & SHIM_EXT_MAINTENANCE4 && p->maintenance4) {
		c->m4 = (Maintenance4Features){.sType = ST_MAINTENANCE4_FEATURES, .maintenance4 = 1};
		push(&c->v12, &c->m4);
	}
	return c;
}

void shim_feature_chain_free(void *chain) { free(chain); }
