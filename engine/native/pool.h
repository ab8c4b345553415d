// Persistent threads behind kl_host.parallel_for.
#ifndef KERNLOCK_POOL_H
#define KERNLOCK_POOL_H
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace kl {

// One caller at a time. The caller is worker 0 and works along; the helpers are workers 1 to workers - 1.
class Pool {
 public:
  using Body = void (*)(void* arg, uint32_t i, uint32_t worker);

  explicit Pool(uint32_t workers);
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;

  uint32_t workers() const { return workers_; }

  // Runs body for every i below count and returns when all are done. Called from inside a body it runs the loop on that
  // body's worker alone and remembers the misuse.
  void run(uint32_t count, Body body, void* arg);

  // Ends the helpers; loops then run on the caller alone.
  void stop();

  // Whether run was called from inside a body since the last call of this.
  bool take_misuse() { return misused_.exchange(false); }

 private:
  void help(uint32_t worker);
  void share(uint32_t worker);
  uint32_t await(uint32_t seen);

  const uint32_t workers_;
  std::vector<std::thread> helpers_;

  // The loop at hand: written only while the gate is shut and nobody is inside.
  Body body_ = nullptr;
  void* arg_ = nullptr;
  uint32_t count_ = 0;
  alignas(64) std::atomic<uint32_t> next_{0};

  // Number of the loop (high half), whether it may be entered (bit 31), how many helpers are inside (low bits). A helper
  // that the system has not scheduled in time never enters, so nobody waits for it.
  alignas(64) std::atomic<uint64_t> gate_{0};
  alignas(64) std::atomic<uint32_t> signal_{0};  // the futex: number of the last loop
  std::atomic<uint32_t> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> misused_{false};
};

}  // namespace kl
#endif
