/* The Kernlock kernel ABI, v0. A shared object exports exactly one function, kl_get_api.
 *
 * Version 0 is not stable: a v0 kernel names the build of this header and of ops.h (a digest, in variant.json) and loads
 * only where that build is the engine's own.
 */
#ifndef KERNLOCK_H
#define KERNLOCK_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KL_ABI 0u

typedef int32_t kl_status;
enum {
  KL_OK = 0,
  KL_INVALID = 1,     /* an argument is out of the limits that variant.json declares */
  KL_UNSUPPORTED = 2, /* a dtype, layout or op that this library does not have */
  KL_WORKSPACE = 3,   /* scratch or state is missing or too small */
  KL_DEVICE = 4,      /* the device or its driver reported an error */
  KL_ABI_MISMATCH = 5 /* a struct has a size this library does not know */
};

enum { KL_DEVICE_CPU = 0, KL_DEVICE_CUDA = 1 };

typedef struct kl_device {
  uint32_t size;
  uint32_t kind;
  int32_t ordinal;         /* device number, -1 for the CPU */
  uint32_t workers;        /* CPU: threads that parallel_for uses */
  uint32_t capability;     /* CUDA: compute capability, 90 for 9.0 */
  uint32_t multiprocessors;
  uint32_t shared_bytes;   /* CUDA: shared memory a block may opt in to */
  int32_t rank;            /* this device among its peers */
  uint32_t peers;
  uint32_t reserved;
} kl_device;

typedef struct kl_module_s* kl_module;
typedef struct kl_function_s* kl_function;
typedef struct kl_instance_s* kl_instance;

typedef struct kl_launch {
  uint32_t size;
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t cluster[3];     /* 0: no cluster */
  uint32_t shared_bytes;
  uint32_t pdl;            /* 1: may start before its predecessor has ended (programmatic dependent launch) */
  uint32_t cooperative;
  uint32_t reserved;
  kl_function function;
  void* stream;
  void** params;
} kl_launch;

/* What the host offers a kernel library. Members that a device kind lacks are null. */
typedef struct kl_host {
  uint32_t size;
  uint32_t abi;
  void* self;
  /* CPU: run body(arg, i, worker) for i in [0, count); returns when all are done. worker < device.workers. */
  void (*parallel_for)(void* self, uint32_t count, void (*body)(void* arg, uint32_t i, uint32_t worker), void* arg);
  /* CUDA: modules come from memory, never from a path. */
  kl_status (*module_load)(void* self, const void* image, uint64_t bytes, kl_module* out);
  kl_status (*module_unload)(void* self, kl_module module);
  kl_status (*function_get)(void* self, kl_module module, const char* name, kl_function* out);
  kl_status (*function_shared)(void* self, kl_function function, uint32_t bytes);
  kl_status (*launch)(void* self, const kl_launch* launch);
  kl_status (*memset_async)(void* self, void* dst, uint8_t value, uint64_t bytes, void* stream);
  /* CUDA: a tiled tensor map; arguments as in cuTensorMapEncodeTiled. */
  kl_status (*tensor_map)(void* self, void* map128, uint32_t dtype, uint32_t rank, void* address, const uint64_t* sizes,
                          const uint64_t* strides, const uint32_t* box, const uint32_t* element_strides,
                          uint32_t interleave, uint32_t swizzle, uint32_t promotion, uint32_t fill);
  /* A sentence on what went wrong, kept with the status that the op returns. */
  void (*report)(void* self, const char* text);
} kl_host;

/* What one launch runs in. */
typedef struct kl_context {
  uint32_t size;
  uint32_t flags; /* 1: allow programmatic dependent launch */
  void* stream;   /* CUDA stream, null on the CPU */
} kl_context;

typedef struct kl_op {
  const char* name; /* as in ops.h, with the path appended: "moe/cpp" */
  uint32_t op;      /* number in ops.h */
  uint32_t args_size;
} kl_op;

typedef struct kl_api {
  uint32_t size;
  uint32_t abi;
  uint32_t op_count;
  uint32_t reserved;
  const kl_op* ops;
  kl_status (*open)(const kl_host* host, const kl_device* device, void* memory, kl_instance* out);
  /* index: position in ops; args: the op's struct, which begins with its size. */
  kl_status (*launch)(kl_instance instance, uint32_t index, const void* args, const kl_context* context);
  kl_status (*close)(kl_instance instance);
  uint64_t instance_bytes; /* memory the host hands to open (16-byte aligned, zeroed) and frees after close */
} kl_api;

/* Returns null when abi is not one this library speaks. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const kl_api* kl_get_api(uint32_t abi);

#ifdef __cplusplus
}
#endif
#endif
