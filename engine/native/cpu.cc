#include "cpu.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <sched.h>
#include <sys/mman.h>

#include "library.h"

namespace kl {

CpuDevice::CpuDevice(uint32_t workers) : pool_(workers) {
  facts_.size = sizeof facts_;
  facts_.kind = KL_DEVICE_CPU;
  facts_.ordinal = -1;
  facts_.workers = pool_.workers();
  facts_.peers = 1;
  host_.size = sizeof host_;
  host_.abi = KL_ABI;
  host_.self = this;
  host_.parallel_for = [](void* self, uint32_t count, Pool::Body body, void* arg) {
    static_cast<CpuDevice*>(self)->pool_.run(count, body, arg);
  };
  host_.report = [](void* self, const char* text) { static_cast<CpuDevice*>(self)->report(text); };
}

void* CpuDevice::allocate(uint64_t bytes, std::string& why) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED) {
    why = std::strerror(errno);
    return nullptr;
  }
  if (bytes >= 4u << 20) madvise(address, bytes, MADV_HUGEPAGE);  // fewer TLB misses; a refusal does no harm
  return address;
}

void CpuDevice::release(void* address, uint64_t bytes) { munmap(address, bytes); }

std::optional<OpFailure> CpuDevice::execute(const Program& program) {
  const std::lock_guard guard(busy());
  take_report();
  kl_context context{};
  context.size = sizeof context;
  for (uint32_t i = 0; i < program.steps.size(); ++i) {
    if (interrupted_.load(std::memory_order_relaxed)) return OpFailure{i, KL_DEVICE, "The device is closing."};
    if (const Copy* copy = std::get_if<Copy>(&program.steps[i])) {
      std::memmove(copy->to, copy->from, copy->bytes);
      continue;
    }
    if (!std::holds_alternative<Launch>(program.steps[i])) return OpFailure{i, KL_UNSUPPORTED, "Device images are for GPUs."};
    const Launch& launch = std::get<Launch>(program.steps[i]);
    const kl_status status = launch.library->launch(launch.index, launch.args.data(), context);
    if (pool_.take_misuse()) return OpFailure{i, KL_INVALID, "The op called parallel_for from inside parallel_for."};
    if (status != KL_OK) return OpFailure{i, status, take_report()};
  }
  return std::nullopt;
}

std::optional<OpFailure> CpuDevice::time(const Program& program, uint32_t runs, std::vector<double>& milliseconds) {
  for (uint32_t run = 0; run <= runs; ++run) {
    const auto start = std::chrono::steady_clock::now();
    if (auto failure = execute(program)) return failure;
    const double taken = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    if (run > 0) milliseconds.push_back(taken);
  }
  return std::nullopt;
}

double CpuDevice::copy_rate(uint64_t bytes, std::string& why) {
  static constexpr uint64_t piece = 1u << 20;
  struct Task {
    char* to;
    const char* from;
    uint64_t bytes;
  } task{static_cast<char*>(allocate(bytes, why)), static_cast<const char*>(allocate(bytes, why)), bytes};
  double best = 0;
  if (task.to != nullptr && task.from != nullptr) {
    const auto body = [](void* arg, uint32_t i, uint32_t) {
      const Task& task = *static_cast<const Task*>(arg);
      const uint64_t begin = i * piece;
      std::memcpy(task.to + begin, task.from + begin, std::min(piece, task.bytes - begin));
    };
    const std::lock_guard guard(busy());
    // Pages that nobody has written are all one page of zeros.
    std::memset(const_cast<char*>(task.from), 1, bytes);
    for (int pass = 0; pass < 6; ++pass) {
      const auto start = std::chrono::steady_clock::now();
      pool_.run(static_cast<uint32_t>((bytes + piece - 1) / piece), body, &task);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      best = std::max(best, 2 * static_cast<double>(bytes) / seconds);
    }
  }
  if (task.to != nullptr) release(task.to, bytes);
  if (task.from != nullptr) release(const_cast<char*>(task.from), bytes);
  return best;
}

uint32_t cpu_level() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("x86-64-v4")) return 4;
  if (__builtin_cpu_supports("x86-64-v3")) return 3;
  if (__builtin_cpu_supports("x86-64-v2")) return 2;
  return 1;
}

uint32_t usable_cores() {
  // The mask must be as wide as the kernel's own, which is not known: widen it until the call takes it.
  for (uint32_t cpus = 1024; cpus <= 1u << 18; cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(cpus);
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const uint32_t count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return std::max(1u, count);
  }
  return 1;
}

double read_loop(CpuDevice& device, const void* address, uint64_t bytes, uint32_t repeats) {
  struct Task {
    const uint64_t* words;
    uint64_t count;
    uint64_t per_item;
    std::atomic<uint64_t> sum{0};
  } task{static_cast<const uint64_t*>(address), bytes / 8, (256u << 10) / 8, {}};
  const auto body = [](void* arg, uint32_t i, uint32_t) {
    Task& task = *static_cast<Task*>(arg);
    const uint64_t begin = i * task.per_item;
    const uint64_t end = std::min(task.count, begin + task.per_item);
    uint64_t sums[16] = {};
    uint64_t at = begin;
    for (; at + 16 <= end; at += 16) {
      __builtin_prefetch(task.words + at + 128);
      for (int lane = 0; lane < 16; ++lane) sums[lane] += task.words[at + lane];
    }
    for (; at < end; ++at) sums[0] += task.words[at];
    uint64_t sum = 0;
    for (const uint64_t part : sums) sum += part;
    task.sum.fetch_add(sum, std::memory_order_relaxed);
  };
  const std::lock_guard guard(device.busy());
  double best = 1e300;
  for (uint32_t pass = 0; pass < repeats; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    device.pool().run(static_cast<uint32_t>((task.count + task.per_item - 1) / task.per_item), body, &task);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace kl
