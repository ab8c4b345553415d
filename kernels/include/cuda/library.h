// What the host side of every CUDA package shares: the instance, refusals, launches and the table behind kl_get_api.
// The library calls nothing but the host's table: no CUDA runtime, no driver symbol, no C++ runtime.
#pragma once
#include <string.h>

#include "cuda/tile_map.h"
#include "kernlock.h"
#include "ops.h"

// The device image, in .rodata under the name kl_image.
#define KL_IMAGE(path)                                                                                              \
  __asm__(".section .rodata\n.balign 64\n.hidden kl_image\n.global kl_image\nkl_image:\n.incbin \"" path            \
          "\"\n.hidden kl_image_end\n.global kl_image_end\nkl_image_end:\n.byte 0\n.previous\n");                 \
  extern "C" __attribute__((visibility("hidden"))) const unsigned char kl_image[], kl_image_end[];

namespace kl {

struct KernelInfo {
  const char* name;
  uint32_t shared_bytes;  // the most dynamic shared memory a launch asks for, where the device has so much
  bool only_sm90a = false;
};
constexpr uint32_t max_kernels = 24;

// The device code has other paths, and other kernels, for sm_90a than for the rest (cuda/device.cuh).
#ifdef KL_PORTABLE
constexpr bool may_be_sm90a = false;
#else
constexpr bool may_be_sm90a = true;
#endif

struct Instance {
  kl_host host;
  kl_device device;
  kl_module module;
  kl_function functions[max_kernels];

  bool sm90a() const { return may_be_sm90a && device.capability == 90; }
  // The dynamic shared memory a block may have; 2 KiB are for what is static.
  uint32_t block_shared() const { return device.shared_bytes - 2048; }

  kl_status refuse(kl_status status, const char* text) const {
    if (host.report != nullptr) host.report(host.self, text);
    return status;
  }
};

struct Grid {
  uint32_t x = 1, y = 1, z = 1;
};

// One launch in the context's stream. `params` is the kernel's only parameter, by value.
struct Launcher {
  const Instance& instance;
  const kl_context& context;

  template <class Params>
  kl_status operator()(uint32_t kernel, Grid grid, uint32_t threads, uint32_t shared, const Params& params,
                       uint32_t cluster = 0) const {
    void* list[1] = {const_cast<Params*>(&params)};
    kl_launch l = {};
    l.size = sizeof(kl_launch);
    l.grid[0] = grid.x, l.grid[1] = grid.y, l.grid[2] = grid.z;
    l.block[0] = threads, l.block[1] = 1, l.block[2] = 1;
    if (cluster != 0) l.cluster[0] = cluster, l.cluster[1] = 1, l.cluster[2] = 1;
    l.shared_bytes = shared;
    l.pdl = context.flags & 1u;
    l.function = instance.functions[kernel];
    l.stream = context.stream;
    l.params = list;
    return instance.host.launch(instance.host.self, &l);
  }
};

template <class... Pointers>
bool all_present(const Pointers*... pointers) {
  return ((pointers != nullptr) && ...);
}
constexpr uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
constexpr uint64_t round_up(uint64_t a, uint64_t b) { return (a + b - 1) / b * b; }

// Hands out 64-byte multiples of a caller's scratch, in the order of the terms in variant.json.
class Arena {
 public:
  Arena(uint8_t* base, uint64_t bytes) : base_(base), bytes_(bytes) {}
  template <class T>
  T* take(uint64_t count) {
    T* at = reinterpret_cast<T*>(base_ + used_);
    used_ += round_up(count * sizeof(T), 64);
    return at;
  }
  bool fits() const { return used_ == 0 || (base_ != nullptr && used_ <= bytes_); }

 private:
  uint8_t* base_;
  uint64_t bytes_;
  uint64_t used_ = 0;
};

// What a TileMap describes: elements, rows, planes (1 of a matrix), and how many of them one copy takes.
enum class Element : uint32_t { u32 = 2, bf16 = 9 };  // numbers of cuTensorMapEncodeTiled
struct Tiles {
  const void* address;
  Element element;
  uint64_t sizes[3], strides[2];  // strides in bytes, of rows and planes
  uint32_t box[3];
  bool swizzled;  // over 128 bytes
};
inline kl_status encode(const Instance& instance, TileMap& map, const Tiles& t) {
  if (!instance.sm90a()) {
    const uint64_t pieces = t.sizes[0] * (t.element == Element::bf16 ? 2 : 4) / 16;
    const PlainMap plain = {static_cast<const uint8_t*>(t.address), t.strides[0], t.strides[1], uint32_t(pieces), uint32_t(t.sizes[1]), uint32_t(t.sizes[2]), t.box[1], t.box[2]};
    memcpy(map.bytes, &plain, sizeof(plain));
    return KL_OK;
  }
  const uint32_t rank = t.box[2] == 1 ? 2 : 3, steps[3] = {1, 1, 1}, swizzle = t.swizzled ? 3 : 0;
  return instance.host.tensor_map(instance.host.self, map.bytes, uint32_t(t.element), rank, const_cast<void*>(t.address), t.sizes, t.strides, t.box, steps, 0, swizzle, 2, 0);
}
// A row-major bf16 matrix, loaded in boxes of `box_rows` rows by 64 columns.
inline kl_status matrix_map(const Instance& instance, TileMap& map, const void* address, uint64_t rows, uint64_t columns, uint32_t box_rows) {
  return encode(instance, map, {address, Element::bf16, {columns, rows, 1}, {columns * 2, 0}, {64, box_rows, 1}, true});
}

using Launch = kl_status (*)(const Instance&, const kl_context&, const void* args);
template <class Args, kl_status (*Op)(const Instance&, const Launcher&, const Args&)>
kl_status launch_op(const Instance& instance, const kl_context& context, const void* args) {
  const Args& typed = *static_cast<const Args*>(args);
  if (typed.size != sizeof(Args)) {
    return instance.refuse(KL_ABI_MISMATCH, "The arguments have a size that this library does not know.");
  }
  return Op(instance, Launcher{instance, context}, typed);
}

// Loads the image and every kernel in it, so that no launch loads anything (a capture would break).
inline kl_status open_instance(const kl_host* host, const kl_device* device, void* memory, kl_instance* out,
                               const void* image, uint64_t image_bytes, const KernelInfo* kernels, uint32_t count) {
  if (host == nullptr || device == nullptr || memory == nullptr || out == nullptr) return KL_INVALID;
  if (host->size != sizeof(kl_host) || device->size != sizeof(kl_device)) return KL_ABI_MISMATCH;
  if (host->abi != KL_ABI) return KL_ABI_MISMATCH;
  Instance* instance = static_cast<Instance*>(memory);
  memcpy(&instance->host, host, sizeof(kl_host));
  memcpy(&instance->device, device, sizeof(kl_device));
  if (device->kind != KL_DEVICE_CUDA) return instance->refuse(KL_UNSUPPORTED, "This variant runs on NVIDIA GPUs only.");
  if (host->module_load == nullptr || host->function_get == nullptr || host->function_shared == nullptr ||
      host->launch == nullptr || host->tensor_map == nullptr || host->memset_async == nullptr) {
    return instance->refuse(KL_INVALID, "A CUDA variant needs the host's module, launch and tensor map functions.");
  }
  kl_status status = host->module_load(host->self, image, image_bytes, &instance->module);
  for (uint32_t i = 0; i < count && status == KL_OK; ++i) {
    if (kernels[i].only_sm90a && !instance->sm90a()) continue;
    status = host->function_get(host->self, instance->module, kernels[i].name, &instance->functions[i]);
    if (status == KL_OK && kernels[i].shared_bytes > 0) {
      const uint32_t most = instance->block_shared();
      status = host->function_shared(host->self, instance->functions[i], kernels[i].shared_bytes < most ? kernels[i].shared_bytes : most);
    }
  }
  if (status == KL_OK) *out = reinterpret_cast<kl_instance>(instance);
  return status;
}

inline kl_status close_instance(kl_instance handle) {
  Instance* instance = reinterpret_cast<Instance*>(handle);
  return instance->host.module_unload(instance->host.self, instance->module);
}

}  // namespace kl

// Defines kl_get_api from X(OP_NUMBER, name, function), one entry `name/cuda` each, and the package's `kernels` table.
#define KL_TABLE_ENTRY(number, name, function) {#name "/cuda", number, sizeof(kl_##name##_args)},
#define KL_TABLE_LAUNCH(number, name, function) kl::launch_op<kl_##name##_args, function>,
#define KL_DEFINE_CUDA_LIBRARY(OPS)                                                                            \
  namespace {                                                                                                 \
  constexpr kl_op op_table[] = {OPS(KL_TABLE_ENTRY)};                                                         \
  constexpr kl::Launch launch_table[] = {OPS(KL_TABLE_LAUNCH)};                                               \
  constexpr uint32_t op_count = sizeof(op_table) / sizeof(op_table[0]);                                       \
  kl_status library_open(const kl_host* host, const kl_device* device, void* memory, kl_instance* out) {      \
    return kl::open_instance(host, device, memory, out, kl_image, uint64_t(kl_image_end - kl_image), kernels, \
                             sizeof(kernels) / sizeof(kernels[0]));                                           \
  }                                                                                                           \
  kl_status library_launch(kl_instance handle, uint32_t index, const void* args, const kl_context* context) { \
    if (handle == nullptr) return KL_INVALID;                                                                 \
    const kl::Instance& instance = *reinterpret_cast<const kl::Instance*>(handle);                            \
    if (context == nullptr || context->size != sizeof(kl_context)) {                                          \
      return instance.refuse(KL_ABI_MISMATCH, "The context has a size that this library does not know.");     \
    }                                                                                                         \
    if (index >= op_count) return instance.refuse(KL_UNSUPPORTED, "This library has no op of that index.");   \
    if (args == nullptr) return instance.refuse(KL_INVALID, "A launch needs arguments.");                     \
    return launch_table[index](instance, *context, args);                                                     \
  }                                                                                                           \
  constexpr kl_api api = {sizeof(kl_api), KL_ABI, op_count, 0, op_table,                                      \
                          library_open, library_launch, kl::close_instance, sizeof(kl::Instance)};            \
  }                                                                                                           \
  extern "C" const kl_api* kl_get_api(uint32_t abi) { return abi == KL_ABI ? &api : nullptr; }
