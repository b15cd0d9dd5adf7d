// Vulkan structures newer than vulkan-go's headers, from the Vulkan 1.4 specification.
#ifndef VKANDINSKY_SHIM_TYPES_H
#define VKANDINSKY_SHIM_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#define VKCALL __stdcall
#else
#define VKCALL
#endif

typedef uint32_t VkB32;
typedef int32_t VkR;
typedef void *H;
typedef VkR(VKCALL *AnyFn)(void);
typedef AnyFn(VKCALL *GipaFn)(H instance, const char *name);
typedef AnyFn(VKCALL *GdpaFn)(H device, const char *name);

typedef struct Base {
	uint32_t sType;
	void *pNext;
} Base;

enum {
	ST_SUBMIT_INFO = 4,
	ST_MEMORY_BARRIER = 46,
	ST_COMMAND_BUFFER_BEGIN_INFO = 42,
	ST_SEMAPHORE_CREATE_INFO = 9,
	ST_WRITE_DESCRIPTOR_SET = 35,
	ST_FEATURES2 = 1000059000,
	ST_PROPERTIES2 = 1000059001,
	ST_MEMORY_PROPERTIES2 = 1000059006,
	ST_MEMORY_BUDGET = 1000237000,
	ST_V11_FEATURES = 49,
	ST_V11_PROPERTIES = 50,
	ST_V12_FEATURES = 51,
	ST_V12_PROPERTIES = 52,
	ST_PUSH_DESCRIPTOR_PROPERTIES = 1000080000,
	ST_HOST_MEMORY_PROPERTIES = 1000178002,
	ST_IMPORT_HOST_POINTER = 1000178000,
	ST_HOST_POINTER_PROPERTIES = 1000178001,
	ST_SEMAPHORE_TYPE = 1000207002,
	ST_TIMELINE_SUBMIT = 1000207003,
	ST_SEMAPHORE_WAIT = 1000207004,
	ST_SEMAPHORE_SIGNAL = 1000207005,
	ST_COOPMAT_FEATURES = 1000506000,
	ST_COOPMAT_PROPERTIES = 1000506001,
	ST_COOPMAT2_FEATURES = 1000593000,
	ST_COOPMAT2_FLEXIBLE = 1000593001,
	ST_MAINTENANCE4_FEATURES = 1000413000,
	ST_COOPMAT2_PROPERTIES = 1000593002,
	ST_BFLOAT16_FEATURES = 1000141000,
	ST_VALIDATION_FEATURES = 1000247000,
	ST_LAYER_SETTINGS = 1000496000,
	ST_DEBUG_MESSENGER = 1000128004,
	ST_DEBUG_NAME = 1000128000,
	ST_SUBGROUP_SIZE_PROPERTIES = 1000225000,
	ST_SUBGROUP_SIZE_REQUIRED = 1000225001,
	ST_SUBGROUP_SIZE_FEATURES = 1000225002,
};

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 storageBuffer16, uniform16, push16, io16, multiview, multiviewGeometry, multiviewTessellation, variablePointersStorage, variablePointers, protectedMemory, ycbcr,
	    drawParameters;
} V11Features;

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 samplerMirrorClampToEdge, drawIndirectCount, storageBuffer8BitAccess, uniformAndStorageBuffer8BitAccess, storagePushConstant8, shaderBufferInt64Atomics,
	    shaderSharedInt64Atomics, shaderFloat16, shaderInt8, descriptorIndexing, dynIdx[3], nonUniform[7], updateAfterBind[6], updateUnusedWhilePending, partiallyBound,
	    variableDescriptorCount, runtimeDescriptorArray, samplerFilterMinmax, scalarBlockLayout, imagelessFramebuffer, uniformBufferStandardLayout,
	    shaderSubgroupExtendedTypes, separateDepthStencilLayouts, hostQueryReset, timelineSemaphore, bufferDeviceAddress, bufferDeviceAddressCaptureReplay,
	    bufferDeviceAddressMultiDevice, vulkanMemoryModel, vulkanMemoryModelDeviceScope, vulkanMemoryModelAvailabilityVisibilityChains, shaderOutputViewportIndex,
	    shaderOutputLayer, subgroupBroadcastDynamicId;
} V12Features;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t features[55]; // VkPhysicalDeviceFeatures
} Features2;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint8_t deviceUUID[16], driverUUID[16], deviceLUID[8];
	uint32_t deviceNodeMask;
	VkB32 deviceLUIDValid;
	uint32_t subgroupSize, subgroupStages, subgroupOperations;
	VkB32 quad;
	uint32_t pointClipping, maxMultiviewViewCount, maxMultiviewInstanceIndex;
	VkB32 protectedNoFault;
	uint32_t maxPerSetDescriptors;
	uint64_t maxMemoryAllocationSize;
} V11Properties;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t driverID;
	char driverName[256], driverInfo[256];
	uint8_t rest[512];
} V12Properties;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t apiVersion, driverVersion, vendorID, deviceID, deviceType;
	char deviceName[256];
	uint8_t pipelineCacheUUID[16];
	uint8_t limits[1024]; // VkPhysicalDeviceLimits and sparse properties; read through vulkan-go
} Properties2;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t maxPushDescriptors;
} PushDescriptorProperties;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint64_t minImportedHostPointerAlignment;
} HostMemoryProperties;

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 control, full;
} SubgroupSizeFeatures;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t min, max, maxSubgroups, stages;
} SubgroupSizeProperties;

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 matrix, robust;
} CoopmatFeatures;

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 workgroupScope, flexibleDimensions, reductions, conversions, perElement, tensorAddressing, blockLoads;
} Coopmat2Features;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t maxWorkgroup, maxDimension, reservedShared;
} Coopmat2Properties;

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 maintenance4;
} Maintenance4Features;

typedef struct {
	uint32_t sType;
	void *pNext;
	VkB32 type, dot, matrix;
} Bfloat16Features;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t m, n, k, a, b, c, result;
	VkB32 saturating;
	uint32_t scope;
} CoopmatProperties;

typedef struct {
	uint32_t sType;
	void *pNext;
	uint32_t mg, ng, kg, a, b, c, result;
	VkB32 saturating;
	uint32_t scope, invocations;
} Coopmat2Flexible;

#endif
