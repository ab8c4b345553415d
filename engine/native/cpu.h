// The CPU as a device.
#ifndef KERNLOCK_CPU_H
#define KERNLOCK_CPU_H
#include <atomic>

#include "device.h"
#include "pool.h"

namespace kl {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(uint32_t workers);
  const kl_device& facts() const override { return facts_; }
  const kl_host& host() const override { return host_; }
  void* allocate(uint64_t bytes, std::string& why) override;
  void release(void* address, uint64_t bytes) override;
  void* allocate_host(uint64_t bytes, bool, std::string& why) override { return allocate(bytes, why); }
  void release_host(void* address, uint64_t bytes) override { release(address, bytes); }
  std::optional<OpFailure> execute(const Program& program) override;
  std::optional<OpFailure> time(const Program& program, uint32_t runs, std::vector<double>& milliseconds) override;
  double copy_rate(uint64_t bytes, std::string& why) override;
  void interrupt() override { interrupted_.store(true); }
  Pool& pool() { return pool_; }
  // What is launched afterwards runs on its caller alone.
  void stop() override { pool_.stop(); }

 private:
  Pool pool_;
  kl_device facts_{};
  kl_host host_{};
  std::atomic<bool> interrupted_{false};
};

// Highest x86-64 level of this machine: 1 to 4.
uint32_t cpu_level();
// Cores this process may run on.
uint32_t usable_cores();
// Reads memory with all workers, `repeats` times, and returns the seconds of the fastest pass: what any kernel is held against.
double read_loop(CpuDevice& device, const void* address, uint64_t bytes, uint32_t repeats);

}  // namespace kl
#endif
