// A GPU driver's library without a GPU, for tests of the device runtime: every function that engine/native opens at run
// time, over memory of this process. Copies and fills happen; launches are counted and not executed; streams run in order
// and at once, graphs when they are launched.
//
// What it counts, and where it is to fail, lies in the file `state` beside it: a table of 64-bit numbers that the test and
// this library map (control.ts knows its form). Where the file may not be written, the table is this process's own.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda_driver.h"

using kl::cuda::Result;
using namespace kl::cuda;

namespace {

#define FAKE_COUNT(member, symbol, ...) +1
constexpr int functions = 0 KL_CUDA_FUNCTIONS(FAKE_COUNT);
#undef FAKE_COUNT
enum Number : int {
#define FAKE_NUMBER(member, symbol, ...) n_##member,
  KL_CUDA_FUNCTIONS(FAKE_NUMBER)
#undef FAKE_NUMBER
};

// In the order of control.ts.
struct State {
  uint64_t calls[64];
  uint64_t fail_at[64];      // the call that fails, counted from 1 since `calls` was last cleared; 0: none
  uint64_t fail_with[64];    // what it returns
  uint64_t total;            // bytes of the device
  uint64_t used, allocations, modules, events, graphs, execs;
  uint64_t kernels;          // that ran
  uint64_t dependent;        // launches that may begin before their predecessor has ended
  uint64_t fault_kernel;     // the kernel that faults, counted from 1; 0: none
  uint64_t lost;             // what every call returns after a fault
  uint64_t hold;             // while not 0, nobody's waiting ends
  uint64_t copied;           // bytes
};
static_assert(functions <= 64);

State* state() {
  static State* mapped = [] {
    Dl_info info{};
    dladdr(reinterpret_cast<void*>(&state), &info);
    std::string path(info.dli_fname);
    path = path.substr(0, path.rfind('/') + 1) + "state";
    int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    const int sharing = fd >= 0 ? MAP_SHARED : MAP_PRIVATE;
    if (fd < 0) fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    void* at = mmap(nullptr, sizeof(State), PROT_READ | PROT_WRITE, fd >= 0 ? sharing : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
    if (fd >= 0) close(fd);
    if (at == MAP_FAILED) abort();
    return static_cast<State*>(at);
  }();
  return mapped;
}

std::recursive_mutex lock;
using Guard = std::lock_guard<std::recursive_mutex>;

Result count(Number number) {
  State& s = *state();
  const uint64_t call = ++s.calls[number];
  if (s.lost != 0) return static_cast<Result>(s.lost);
  if (s.fail_at[number] != 0 && call == s.fail_at[number]) {
    if (s.fail_with[number] >= 700) s.lost = s.fail_with[number];
    return static_cast<Result>(s.fail_with[number]);
  }
  return success;
}
#define FAKE_CALL(member)                                                  \
  const Guard guard(lock);                                                 \
  if (const Result failed = count(n_##member); failed != success) return failed

std::map<Pointer, size_t> memory;

bool inside(Pointer at, size_t bytes) {
  auto after = memory.upper_bound(at);
  if (after == memory.begin()) return false;
  --after;
  return at + bytes <= after->first + after->second;
}

struct Node {
  enum { kernel, up, down, within, fill } kind;
  void* to;
  const void* from;
  size_t bytes;
  unsigned char value;
};

constexpr Result invalid_value = 1, out_of_memory = 2, compiler_disabled = 223, not_found = 500, illegal_address = 700, unknown = 999;

Result run(const Node& node) {
  State& s = *state();
  if (s.lost != 0) return success;  // what comes after a fault does not run; whoever waits hears of it
  switch (node.kind) {
    case Node::kernel:
      if (++s.kernels == s.fault_kernel) s.lost = illegal_address;
      return success;
    case Node::up:
      if (!inside(reinterpret_cast<Pointer>(node.to), node.bytes)) return invalid_value;
      break;
    case Node::down:
      if (!inside(reinterpret_cast<Pointer>(node.from), node.bytes)) return invalid_value;
      break;
    case Node::within:
      if (!inside(reinterpret_cast<Pointer>(node.to), node.bytes) || !inside(reinterpret_cast<Pointer>(node.from), node.bytes)) return invalid_value;
      break;
    case Node::fill:
      if (!inside(reinterpret_cast<Pointer>(node.to), node.bytes)) return invalid_value;
      // Fresh memory is zero: whole pages are given back instead of written.
      if (node.value == 0 && node.bytes >= 1u << 20) {
        const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), begin = reinterpret_cast<uintptr_t>(node.to), end = begin + node.bytes;
        const uintptr_t first = (begin + page - 1) / page * page, last = end / page * page;
        std::memset(node.to, 0, first - begin);
        madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
        std::memset(reinterpret_cast<void*>(last), 0, end - last);
      } else {
        std::memset(node.to, node.value, node.bytes);
      }
      return success;
  }
  s.copied += node.bytes;
  std::memmove(node.to, node.from, node.bytes);
  return success;
}

}  // namespace

namespace kl::cuda {
struct ContextRecord {};
struct StreamRecord {
  GraphRecord* capture = nullptr;
};
struct EventRecord {
  double at = 0;
};
struct ModuleRecord {};
struct FunctionRecord {
  std::string name;
};
struct GraphRecord {
  std::vector<Node> nodes;
};
struct GraphExecRecord {
  std::vector<Node> nodes;
};
}  // namespace kl::cuda

namespace {
Result issue(Stream stream, const Node& node) {
  if (stream->capture == nullptr) return run(node);
  stream->capture->nodes.push_back(node);
  return success;
}
Result waited() {
  while (std::atomic_ref<uint64_t>(state()->hold).load() != 0) sched_yield();
  const Guard guard(lock);
  return static_cast<Result>(state()->lost);
}
double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) * 1e-6;
}
}  // namespace

#define FAKE extern "C" __attribute__((visibility("default"))) Result

// Like a driver, which reads these once.
bool says(const char* name, const char* value) {
  const char* given = getenv(name);
  return given != nullptr && strcmp(given, value) == 0;
}
bool compiler_off, cache_off;
// A fatbin without machine code, which a driver would have to compile.
bool only_ptx(const void* image) {
  const auto* at = static_cast<const char*>(image);
  const auto word = [&](size_t offset, auto value) { return std::memcpy(&value, at + offset, sizeof value), value; };
  if (word(0, uint32_t{}) != 0xba55ed50) return false;
  for (size_t entry = 16, end = 16 + word(8, uint64_t{}); entry < end; entry += word(entry + 4, uint32_t{}) + word(entry + 8, uint64_t{})) {
    if (word(entry, uint16_t{}) != 1) return false;
  }
  return true;
}

FAKE cuInit(unsigned) {
  FAKE_CALL(init);
  compiler_off = says("CUDA_DISABLE_PTX_JIT", "1");
  cache_off = says("CUDA_CACHE_DISABLE", "1");
  return success;
}
FAKE cuDriverGetVersion(int* out) { FAKE_CALL(driver_version); *out = 13000; return success; }
FAKE cuGetErrorName(Result result, const char** out) {
  *out = result == out_of_memory ? "CUDA_ERROR_OUT_OF_MEMORY" : result == illegal_address ? "CUDA_ERROR_ILLEGAL_ADDRESS"
         : result == compiler_disabled ? "CUDA_ERROR_JIT_COMPILATION_DISABLED" : "CUDA_ERROR_FAKE";
  return success;
}
FAKE cuGetErrorString(Result, const char** out) { *out = "as the test wanted"; return success; }
FAKE cuDeviceGetCount(int* out) { FAKE_CALL(device_count); *out = 1; return success; }
FAKE cuDeviceGet(int* out, int ordinal) { FAKE_CALL(device_get); *out = ordinal; return success; }
FAKE cuDeviceGetName(char* out, int size, int) { FAKE_CALL(device_name); strncpy(out, "Fake H100", static_cast<size_t>(size)); return success; }
FAKE cuDeviceGetAttribute(int* out, DeviceAttribute which, int) {
  FAKE_CALL(device_attribute);
  *out = which == capability_major ? 9 : which == capability_minor ? 0 : which == multiprocessor_count ? 132 : 232448;
  return success;
}
FAKE cuDevicePrimaryCtxRetain(Context* out, int) {
  FAKE_CALL(context_retain);
  static ContextRecord context;
  *out = &context;
  return success;
}
FAKE cuCtxSetCurrent(Context) { FAKE_CALL(context_set); return success; }
FAKE cuMemGetInfo_v2(size_t* free, size_t* total) {
  FAKE_CALL(memory_info);
  *total = state()->total;
  *free = state()->total - state()->used;
  return success;
}
FAKE cuMemAlloc_v2(Pointer* out, size_t bytes) {
  FAKE_CALL(memory_allocate);
  if (state()->used + bytes > state()->total) return out_of_memory;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return out_of_memory;
  *out = reinterpret_cast<Pointer>(at);
  memory[*out] = bytes;
  state()->used += bytes;
  ++state()->allocations;
  return success;
}
FAKE cuMemFree_v2(Pointer at) {
  FAKE_CALL(memory_free);
  const auto found = memory.find(at);
  if (found == memory.end()) return invalid_value;
  munmap(reinterpret_cast<void*>(at), found->second);
  state()->used -= found->second;
  --state()->allocations;
  memory.erase(found);
  return success;
}
FAKE cuMemHostAlloc(void** out, size_t bytes, unsigned) { FAKE_CALL(host_allocate); *out = aligned_alloc(256, (bytes + 255) / 256 * 256); return *out == nullptr ? out_of_memory : success; }
FAKE cuMemFreeHost(void* at) { FAKE_CALL(host_free); free(at); return success; }
FAKE cuMemcpyHtoDAsync_v2(Pointer to, const void* from, size_t bytes, Stream stream) {
  FAKE_CALL(copy_up);
  return issue(stream, {Node::up, reinterpret_cast<void*>(to), from, bytes, 0});
}
FAKE cuMemcpyDtoHAsync_v2(void* to, Pointer from, size_t bytes, Stream stream) {
  FAKE_CALL(copy_down);
  return issue(stream, {Node::down, to, reinterpret_cast<const void*>(from), bytes, 0});
}
FAKE cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, Stream stream) {
  FAKE_CALL(copy_within);
  return issue(stream, {Node::within, reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes, 0});
}
FAKE cuMemsetD8Async(Pointer to, unsigned char value, size_t bytes, Stream stream) {
  FAKE_CALL(fill);
  return issue(stream, {Node::fill, reinterpret_cast<void*>(to), nullptr, bytes, value});
}
FAKE cuStreamCreate(Stream* out, unsigned) { FAKE_CALL(stream_create); *out = new StreamRecord; return success; }
FAKE cuStreamSynchronize(Stream stream) {
  {
    FAKE_CALL(stream_wait);
    if (stream->capture != nullptr) return invalid_value;
  }
  return waited();
}
FAKE cuStreamWaitEvent(Stream, Event, unsigned) { FAKE_CALL(stream_after); return success; }
FAKE cuStreamBeginCapture_v2(Stream stream, int) {
  FAKE_CALL(capture_begin);
  if (stream->capture != nullptr) return invalid_value;
  stream->capture = new GraphRecord;
  ++state()->graphs;
  return success;
}
FAKE cuStreamEndCapture(Stream stream, Graph* out) {
  FAKE_CALL(capture_end);
  *out = stream->capture;
  stream->capture = nullptr;
  return *out == nullptr ? invalid_value : success;
}
FAKE cuEventCreate(Event* out, unsigned) { FAKE_CALL(event_create); *out = new EventRecord; ++state()->events; return success; }
FAKE cuEventRecord(Event event, Stream) { FAKE_CALL(event_record); event->at = now(); return success; }
FAKE cuEventSynchronize(Event) {
  { FAKE_CALL(event_wait); }
  return waited();
}
FAKE cuEventElapsedTime(float* out, Event from, Event to) { FAKE_CALL(event_elapsed); *out = static_cast<float>(to->at - from->at) + 1e-3f; return success; }
FAKE cuEventDestroy_v2(Event event) { FAKE_CALL(event_destroy); delete event; --state()->events; return success; }
FAKE cuGraphInstantiateWithFlags(GraphExec* out, Graph graph, unsigned long long) {
  FAKE_CALL(graph_instantiate);
  *out = new GraphExecRecord{graph->nodes};
  ++state()->execs;
  return success;
}
FAKE cuGraphLaunch(GraphExec exec, Stream) {
  FAKE_CALL(graph_launch);
  for (const Node& node : exec->nodes) {
    if (const Result failed = run(node); failed != success) return failed;
  }
  return success;
}
FAKE cuGraphDestroy(Graph graph) { FAKE_CALL(graph_destroy); delete graph; --state()->graphs; return success; }
FAKE cuGraphExecDestroy(GraphExec exec) { FAKE_CALL(graph_exec_destroy); delete exec; --state()->execs; return success; }
FAKE cuModuleLoadData(Module* out, const void* image) {
  FAKE_CALL(module_load);
  if (only_ptx(image)) {
    if (compiler_off) return compiler_disabled;
    if (!cache_off) return unknown;  // what it compiles would be written to disk
  }
  *out = new ModuleRecord;
  ++state()->modules;
  return success;
}
FAKE cuModuleUnload(Module module) { FAKE_CALL(module_unload); delete module; --state()->modules; return success; }
FAKE cuModuleGetFunction(Function* out, Module, const char* name) {
  FAKE_CALL(module_function);
  if (strcmp(name, "absent") == 0) return not_found;
  *out = new FunctionRecord{name};
  return success;
}
FAKE cuFuncLoad(Function) { FAKE_CALL(function_load); return success; }
FAKE cuFuncSetAttribute(Function, int, int) { FAKE_CALL(function_set); return success; }
#ifndef FAKE_OLD
FAKE cuLaunchKernelEx(const LaunchConfig* config, Function, void**, void**) {
  FAKE_CALL(launch);
  for (unsigned i = 0; i < config->attribute_count; ++i) state()->dependent += config->attributes[i].id == programmatic_serialization;
  return issue(config->stream, {Node::kernel, nullptr, nullptr, 0, 0});
}
#endif
FAKE cuTensorMapEncodeTiled(void*, int, uint32_t, void*, const uint64_t*, const uint64_t*, const uint32_t*, const uint32_t*, int, int, int, int) {
  FAKE_CALL(tensor_map);
  return success;
}
