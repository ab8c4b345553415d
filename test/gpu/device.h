// The harness's side of the ABI: a CUDA host table over the driver API, opened at run time, and memory helpers.
#pragma once
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <string>
#include <vector>

#include "kernlock.h"
#include "ops.h"

namespace gpu {

[[noreturn]] inline void die(const char* what, int code) {
  fprintf(stderr, "%s failed with %d\n", what, code);
  exit(2);
}
inline void* driver_symbol(const char* name) {
  static void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) die("dlopen libcuda.so.1", 0);
  void* symbol = dlsym(driver, name);
  if (symbol == nullptr) die(name, -1);
  return symbol;
}
#define CU_NAME_(f) #f
#define CU_NAME(f) CU_NAME_(f)
// Calls a driver function by its current (_v2, _v3) name; stops on an error.
#define CU(function, ...)                                                                                  \
  do {                                                                                                     \
    static auto call = reinterpret_cast<decltype(&function)>(gpu::driver_symbol(CU_NAME(function)));       \
    if (CUresult result = call(__VA_ARGS__); result != CUDA_SUCCESS) gpu::die(CU_NAME(function), result);  \
  } while (0)
#define CU_STATUS(function, ...)                                                                           \
  [&]() -> kl_status {                                                                                     \
    static auto call = reinterpret_cast<decltype(&function)>(gpu::driver_symbol(CU_NAME(function)));       \
    CUresult result = call(__VA_ARGS__);                                                                   \
    if (result != CUDA_SUCCESS) fprintf(stderr, "%s: error %d\n", CU_NAME(function), result);              \
    return result == CUDA_SUCCESS ? KL_OK : KL_DEVICE;                                                     \
  }()

struct Device {
  CUdevice device;
  CUcontext context;
  CUstream stream;
  kl_host host;
  kl_device facts;

  Device() {
    CU(cuInit, 0);
    CU(cuDeviceGet, &device, 0);
    CU(cuDevicePrimaryCtxRetain, &context, device);
    CU(cuCtxSetCurrent, context);
    CU(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    const auto attribute = [&](CUdevice_attribute a) {
      int v;
      CU(cuDeviceGetAttribute, &v, a, device);
      return uint32_t(v);
    };
    facts = {};
    facts.size = sizeof(kl_device);
    facts.kind = KL_DEVICE_CUDA;
    facts.capability = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
                       attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    facts.multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    facts.shared_bytes = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    facts.peers = 1;
    host = {};
    host.size = sizeof(kl_host);
    host.abi = KL_ABI;
    host.self = this;
    host.module_load = [](void*, const void* image, uint64_t, kl_module* out) {
      return CU_STATUS(cuModuleLoadData, reinterpret_cast<CUmodule*>(out), image);
    };
    host.module_unload = [](void*, kl_module m) { return CU_STATUS(cuModuleUnload, reinterpret_cast<CUmodule>(m)); };
    host.function_get = [](void*, kl_module m, const char* name, kl_function* out) {
      return CU_STATUS(cuModuleGetFunction, reinterpret_cast<CUfunction*>(out), reinterpret_cast<CUmodule>(m), name);
    };
    host.function_shared = [](void*, kl_function f, uint32_t bytes) {
      return CU_STATUS(cuFuncSetAttribute, reinterpret_cast<CUfunction>(f),
                       CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, int(bytes));
    };
    host.launch = [](void*, const kl_launch* l) {
      CUlaunchAttribute attributes[3] = {};
      unsigned count = 0;
      if (l->pdl) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        attributes[count++].value.programmaticStreamSerializationAllowed = 1;
      }
      if (l->cluster[0] != 0) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        attributes[count].value.clusterDim.x = l->cluster[0];
        attributes[count].value.clusterDim.y = l->cluster[1];
        attributes[count++].value.clusterDim.z = l->cluster[2];
      }
      if (l->cooperative) {
        attributes[count].id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
        attributes[count++].value.cooperative = 1;
      }
      CUlaunchConfig c = {};
      c.gridDimX = l->grid[0], c.gridDimY = l->grid[1], c.gridDimZ = l->grid[2];
      c.blockDimX = l->block[0], c.blockDimY = l->block[1], c.blockDimZ = l->block[2];
      c.sharedMemBytes = l->shared_bytes, c.hStream = static_cast<CUstream>(l->stream);
      c.attrs = attributes, c.numAttrs = count;
      return CU_STATUS(cuLaunchKernelEx, &c, reinterpret_cast<CUfunction>(l->function), l->params, nullptr);
    };
    host.memset_async = [](void*, void* dst, uint8_t value, uint64_t bytes, void* stream) {
      return CU_STATUS(cuMemsetD8Async, reinterpret_cast<CUdeviceptr>(dst), value, bytes, static_cast<CUstream>(stream));
    };
    host.tensor_map = [](void*, void* map, uint32_t dtype, uint32_t rank, void* address, const uint64_t* sizes,
                         const uint64_t* strides, const uint32_t* box, const uint32_t* steps, uint32_t interleave,
                         uint32_t swizzle, uint32_t promotion, uint32_t fill) {
      return CU_STATUS(cuTensorMapEncodeTiled, static_cast<CUtensorMap*>(map), CUtensorMapDataType(dtype), rank, address,
                       reinterpret_cast<const cuuint64_t*>(sizes), reinterpret_cast<const cuuint64_t*>(strides), box, steps,
                       CUtensorMapInterleave(interleave), CUtensorMapSwizzle(swizzle), CUtensorMapL2promotion(promotion),
                       CUtensorMapFloatOOBfill(fill));
    };
    host.report = [](void*, const char* text) { fprintf(stderr, "report: %s\n", text); };
  }
  void sync() { CU(cuStreamSynchronize, stream); }
};

// Device memory, given back all at once.
struct Memory {
  std::vector<CUdeviceptr> all;
  uint64_t bytes = 0;
  void* take(uint64_t size) {
    CUdeviceptr p;
    CU(cuMemAlloc, &p, size < 256 ? 256 : size);
    all.push_back(p);
    bytes += size;
    return reinterpret_cast<void*>(p);
  }
  template <class T>
  T* put(const std::vector<T>& v) {
    void* p = take(v.size() * sizeof(T));
    CU(cuMemcpyHtoD, reinterpret_cast<CUdeviceptr>(p), v.data(), v.size() * sizeof(T));
    return static_cast<T*>(p);
  }
  template <class T>
  T* poisoned(uint64_t count) {
    void* p = take(count * sizeof(T));
    CU(cuMemsetD8, reinterpret_cast<CUdeviceptr>(p), 0xff, count * sizeof(T));
    return static_cast<T*>(p);
  }
  uint8_t* zeroed(uint64_t size) {
    void* p = take(size);
    CU(cuMemsetD8, reinterpret_cast<CUdeviceptr>(p), 0, size);
    return static_cast<uint8_t*>(p);
  }
  void clear() {
    for (CUdeviceptr p : all) CU(cuMemFree, p);
    all.clear();
    bytes = 0;
  }
};
template <class T>
std::vector<T> fetch(const void* p, uint64_t count) {
  std::vector<T> v(count);
  CU(cuMemcpyDtoH, v.data(), reinterpret_cast<CUdeviceptr>(p), count * sizeof(T));
  return v;
}

struct Library {
  const kl_api* api = nullptr;
  kl_instance instance = nullptr;
  std::vector<uint8_t> memory;
  std::string name;

  void open(Device& device, const std::string& path) {
    name = path;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) fprintf(stderr, "%s\n", dlerror()), exit(2);
    auto get = reinterpret_cast<decltype(&kl_get_api)>(dlsym(library, "kl_get_api"));
    api = get(KL_ABI);
    memory.assign(api->instance_bytes + 16, 0);
    void* aligned = reinterpret_cast<void*>((reinterpret_cast<uint64_t>(memory.data()) + 15) & ~15ull);
    if (kl_status s = api->open(&device.host, &device.facts, aligned, &instance); s != KL_OK) die(path.c_str(), s);
  }
  template <class Args>
  kl_status run(Device& device, uint32_t op, Args args, bool pdl = false) const {
    args.size = sizeof(Args);
    for (uint32_t i = 0; i < api->op_count; ++i) {
      if (api->ops[i].op == op) {
        kl_context c = {sizeof(kl_context), pdl ? 1u : 0u, device.stream};
        return api->launch(instance, i, &args, &c);
      }
    }
    return KL_UNSUPPORTED;
  }
};

}  // namespace gpu
