// A thread that runs a device's programs one after another and tells JavaScript when each is done.
#ifndef KERNLOCK_RUNNER_H
#define KERNLOCK_RUNNER_H
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "device.h"

namespace kl {

class Runner {
 public:
  using Done = std::function<void(std::optional<OpFailure>)>;

  explicit Runner(Device& device);
  // Waits for the step at hand; programs that have not begun are told so.
  ~Runner();
  // done is called on the runner's thread.
  void submit(std::shared_ptr<const Program> program, Done done);
  // Nanoseconds during which a program was at work, since the beginning.
  uint64_t busy() const { return busy_.load(std::memory_order_relaxed); }

 private:
  struct Job {
    std::shared_ptr<const Program> program;
    Done done;
  };
  void loop();
  void wait_loop();
  // Begins and ends of programs, for `busy`; the caller holds lock_.
  void working(int change);

  Device& device_;
  std::mutex lock_;
  std::condition_variable wake_, begun_, idle_;
  std::deque<Job> jobs_;
  // At work on the device: waited for by a thread of its own, so that the next one can be put behind them meanwhile.
  std::deque<Job> started_;
  bool stop_ = false, stop_waiting_ = false;
  int at_work_ = 0;
  std::chrono::steady_clock::time_point since_;
  std::atomic<uint64_t> busy_{0};
  std::thread thread_, waiter_;
};

}  // namespace kl
#endif
