// What every CPU package shares: the instance, refusals, parallel loops and the table behind kl_get_api.
// A package needs no C++ runtime: nothing here allocates, throws, or is initialised when the library is loaded.
#pragma once
#include <string.h>

#include "kernlock.h"
#include "ops.h"

namespace kl {

struct Instance {
  kl_host host;
  kl_device device;

  // Reports a sentence and gives the status that goes with it.
  kl_status refuse(kl_status status, const char* text) const {
    if (host.report != nullptr) host.report(host.self, text);
    return status;
  }

  // body(i, worker) for i in [0, count). Bodies cannot fail: whatever may be wrong is checked before.
  template <class Body>
  void parallel(uint64_t count, const Body& body) const {
    if (count == 0) return;
    if (count == 1) return body(0u, 0u);
    const auto call = [](void* arg, uint32_t i, uint32_t worker) { (*static_cast<const Body*>(arg))(i, worker); };
    host.parallel_for(host.self, static_cast<uint32_t>(count), call, const_cast<Body*>(&body));
  }
};

// More than this many tasks in one loop, or a width beyond max_width, is refused as absurd.
constexpr uint64_t max_tasks = UINT32_MAX;
constexpr uint32_t max_width = 1u << 20;

template <class... Pointers>
bool all_present(const Pointers*... pointers) {
  return ((pointers != nullptr) && ...);
}

constexpr uint64_t ceil_div(uint64_t a, uint64_t b) { return (a + b - 1) / b; }
template <class T>
constexpr T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

// Hands out 64-byte multiples of a caller's scratch, in the order of the terms in variant.json.
class Arena {
 public:
  Arena(uint8_t* base, uint64_t bytes) : base_(base), bytes_(bytes) {}
  template <class T>
  T* take(uint64_t count) {
    T* at = reinterpret_cast<T*>(base_ + used_);
    used_ += ceil_div(count * sizeof(T), 64) * 64;
    return at;
  }
  // Call after the last take and before the first use.
  bool fits() const { return used_ == 0 || (base_ != nullptr && used_ <= bytes_); }

 private:
  uint8_t* base_;
  uint64_t bytes_;
  uint64_t used_ = 0;
};

using Launch = kl_status (*)(const Instance&, const void* args);

// Turns `kl_status op(const Instance&, const kl_op_args&)` into a table entry.
template <class Args, kl_status (*Op)(const Instance&, const Args&)>
kl_status launch_op(const Instance& instance, const void* args) {
  const Args& typed = *static_cast<const Args*>(args);
  if (typed.size != sizeof(Args)) {
    return instance.refuse(KL_ABI_MISMATCH, "The arguments have a size that this library does not know.");
  }
  return Op(instance, typed);
}

inline kl_status open_instance(const kl_host* host, const kl_device* device, void* memory, kl_instance* out) {
  if (host == nullptr || device == nullptr || memory == nullptr || out == nullptr) return KL_INVALID;
  if (host->size != sizeof(kl_host) || device->size != sizeof(kl_device)) return KL_ABI_MISMATCH;
  if (host->abi != KL_ABI) return KL_ABI_MISMATCH;
  Instance* instance = static_cast<Instance*>(memory);
  memcpy(&instance->host, host, sizeof(kl_host));
  memcpy(&instance->device, device, sizeof(kl_device));
  if (device->kind != KL_DEVICE_CPU) {
    return instance->refuse(KL_UNSUPPORTED, "This variant runs on the CPU only.");
  }
  if (host->parallel_for == nullptr || device->workers == 0) {
    return instance->refuse(KL_INVALID, "A CPU variant needs the host's parallel_for and at least one worker.");
  }
  *out = reinterpret_cast<kl_instance>(instance);
  return KL_OK;
}

inline kl_status close_instance(kl_instance) { return KL_OK; }

}  // namespace kl

// Defines kl_get_api from a list of X(OP_NUMBER, name, function): one entry `name/cpp` each.
#define KL_TABLE_ENTRY(number, name, function) {#name "/cpp", number, sizeof(kl_##name##_args)},
#define KL_TABLE_LAUNCH(number, name, function) kl::launch_op<kl_##name##_args, function>,
#define KL_DEFINE_LIBRARY(OPS)                                                                             \
  namespace {                                                                                              \
  constexpr kl_op op_table[] = {OPS(KL_TABLE_ENTRY)};                                                      \
  constexpr kl::Launch launch_table[] = {OPS(KL_TABLE_LAUNCH)};                                            \
  constexpr uint32_t op_count = sizeof(op_table) / sizeof(op_table[0]);                                    \
  kl_status launch(kl_instance handle, uint32_t index, const void* args, const kl_context* context) {      \
    if (handle == nullptr) return KL_INVALID;                                                              \
    const kl::Instance& instance = *reinterpret_cast<const kl::Instance*>(handle);                         \
    if (context != nullptr && context->size != sizeof(kl_context)) {                                       \
      return instance.refuse(KL_ABI_MISMATCH, "The context has a size that this library does not know.");  \
    }                                                                                                      \
    if (index >= op_count) return instance.refuse(KL_UNSUPPORTED, "This library has no op of that index."); \
    if (args == nullptr) return instance.refuse(KL_INVALID, "A launch needs arguments.");                  \
    return launch_table[index](instance, args);                                                            \
  }                                                                                                        \
  constexpr kl_api api = {sizeof(kl_api), KL_ABI, op_count, 0, op_table,                                   \
                          kl::open_instance, launch, kl::close_instance, sizeof(kl::Instance)};            \
  }                                                                                                        \
  extern "C" const kl_api* kl_get_api(uint32_t abi) { return abi == KL_ABI ? &api : nullptr; }
