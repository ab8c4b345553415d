// A thread that runs a device's programs one after another and tells JavaScript when each is done.
#ifndef KERNLOCK_RUNNER_H
#define KERNLOCK_RUNNER_H
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

 private:
  struct Job {
    std::shared_ptr<const Program> program;
    Done done;
  };
  void loop();

  Device& device_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace kl
#endif
