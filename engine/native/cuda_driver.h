// The part of the CUDA driver API that the runtime uses, declared by hand: no toolkit header is needed to build, and no
// driver to start. Names of types and members follow the driver's; numbers are those of its stable binary interface.
#ifndef KERNLOCK_CUDA_DRIVER_H
#define KERNLOCK_CUDA_DRIVER_H
#include <cstddef>
#include <cstdint>
#include <string>

#include "failure.h"

namespace kl::cuda {

using Result = int;
constexpr Result success = 0;
using Ordinal = int;
using Pointer = unsigned long long;
using Context = struct ContextRecord*;
using Stream = struct StreamRecord*;
using Event = struct EventRecord*;
using Module = struct ModuleRecord*;
using Function = struct FunctionRecord*;
using Graph = struct GraphRecord*;
using GraphExec = struct GraphExecRecord*;

enum DeviceAttribute : int {
  multiprocessor_count = 16,
  capability_major = 75,
  capability_minor = 76,
  shared_per_block_optin = 97,
};
constexpr int dynamic_shared_bytes = 8;             // attribute of a function
constexpr unsigned stream_non_blocking = 1;
constexpr unsigned event_default = 0;
constexpr unsigned event_disable_timing = 2;
constexpr unsigned host_portable = 1;
constexpr int capture_thread_local = 1;

enum AttributeId : int { cooperative = 2, cluster_dimension = 4, programmatic_serialization = 6 };
struct alignas(8) Attribute {
  AttributeId id;
  char pad[4];
  union {
    char bytes[64];
    int flag;
    uint32_t cluster[3];
  } value;
};
struct LaunchConfig {
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  Stream stream;
  Attribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(Attribute) == 72 && sizeof(LaunchConfig) == 56);

#define KL_CUDA_FUNCTIONS(X)                                                                                             \
  X(init, "cuInit", unsigned)                                                                                            \
  X(driver_version, "cuDriverGetVersion", int*)                                                                          \
  X(error_name, "cuGetErrorName", Result, const char**)                                                                  \
  X(error_text, "cuGetErrorString", Result, const char**)                                                                \
  X(device_count, "cuDeviceGetCount", int*)                                                                              \
  X(device_get, "cuDeviceGet", int*, int)                                                                                \
  X(device_name, "cuDeviceGetName", char*, int, int)                                                                     \
  X(device_attribute, "cuDeviceGetAttribute", int*, DeviceAttribute, int)                                                \
  X(context_retain, "cuDevicePrimaryCtxRetain", Context*, int)                                                           \
  X(context_set, "cuCtxSetCurrent", Context)                                                                             \
  X(memory_info, "cuMemGetInfo_v2", size_t*, size_t*)                                                                    \
  X(memory_allocate, "cuMemAlloc_v2", Pointer*, size_t)                                                                  \
  X(memory_free, "cuMemFree_v2", Pointer)                                                                                \
  X(host_allocate, "cuMemHostAlloc", void**, size_t, unsigned)                                                           \
  X(host_free, "cuMemFreeHost", void*)                                                                                   \
  X(copy_up, "cuMemcpyHtoDAsync_v2", Pointer, const void*, size_t, Stream)                                               \
  X(copy_down, "cuMemcpyDtoHAsync_v2", void*, Pointer, size_t, Stream)                                                   \
  X(copy_within, "cuMemcpyDtoDAsync_v2", Pointer, Pointer, size_t, Stream)                                               \
  X(fill, "cuMemsetD8Async", Pointer, unsigned char, size_t, Stream)                                                     \
  X(stream_create, "cuStreamCreate", Stream*, unsigned)                                                                  \
  X(stream_wait, "cuStreamSynchronize", Stream)                                                                          \
  X(stream_after, "cuStreamWaitEvent", Stream, Event, unsigned)                                                          \
  X(capture_begin, "cuStreamBeginCapture_v2", Stream, int)                                                               \
  X(capture_end, "cuStreamEndCapture", Stream, Graph*)                                                                   \
  X(event_create, "cuEventCreate", Event*, unsigned)                                                                     \
  X(event_record, "cuEventRecord", Event, Stream)                                                                        \
  X(event_wait, "cuEventSynchronize", Event)                                                                             \
  X(event_elapsed, "cuEventElapsedTime", float*, Event, Event)                                                           \
  X(event_destroy, "cuEventDestroy_v2", Event)                                                                           \
  X(graph_instantiate, "cuGraphInstantiateWithFlags", GraphExec*, Graph, unsigned long long)                             \
  X(graph_launch, "cuGraphLaunch", GraphExec, Stream)                                                                    \
  X(graph_destroy, "cuGraphDestroy", Graph)                                                                              \
  X(graph_exec_destroy, "cuGraphExecDestroy", GraphExec)                                                                 \
  X(module_load, "cuModuleLoadData", Module*, const void*)                                                               \
  X(module_unload, "cuModuleUnload", Module)                                                                             \
  X(module_function, "cuModuleGetFunction", Function*, Module, const char*)                                              \
  X(function_load, "cuFuncLoad", Function)                                                                               \
  X(function_set, "cuFuncSetAttribute", Function, int, int)                                                              \
  X(launch, "cuLaunchKernelEx", const LaunchConfig*, Function, void**, void**)                                           \
  X(tensor_map, "cuTensorMapEncodeTiled", void*, int, uint32_t, void*, const uint64_t*, const uint64_t*, const uint32_t*, \
    const uint32_t*, int, int, int, int)

struct Driver {
#define KL_CUDA_MEMBER(member, symbol, ...) Result (*member)(__VA_ARGS__) = nullptr;
  KL_CUDA_FUNCTIONS(KL_CUDA_MEMBER)
#undef KL_CUDA_MEMBER

  // Opens the driver's library at a path (which the caller has judged) and initialises it; null with the reason on failure.
  // `compile_ptx`: whether it may compile PTX, which it never does otherwise. A process has one driver, opened in one way: a
  // later call that wants another is refused.
  static const Driver* open(const std::string& path, bool compile_ptx, Failure& why);
  // "CUDA_ERROR_INVALID_VALUE (invalid argument)"
  std::string describe(Result result) const;
};

}  // namespace kl::cuda
#endif
