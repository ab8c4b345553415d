// What a device is to the rest of the runtime. The CPU is one; a GPU driven through its driver's library can be another.
#ifndef KERNLOCK_DEVICE_H
#define KERNLOCK_DEVICE_H
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "failure.h"
#include "kernlock.h"

namespace kl {

class Library;

// One launch of a program; args points to the program's own copy.
struct Step {
  std::shared_ptr<Library> library;
  uint32_t index;
  std::vector<uint64_t> args;  // 64-bit words, for alignment
};

struct Program {
  std::vector<Step> steps;
};

struct OpFailure {
  uint32_t step;
  kl_status status;
  std::string text;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const kl_device& facts() const = 0;
  // The table that libraries keep; it lives as long as the device.
  virtual const kl_host& host() const = 0;
  // Zeroed memory, 64-byte aligned; null when there is not so much.
  virtual void* allocate(uint64_t bytes) = 0;
  virtual void release(void* address, uint64_t bytes) = 0;
  // Runs every step on the calling thread, one program at a time.
  virtual std::optional<OpFailure> execute(const Program& program) = 0;
  // Makes a running program end after the step at hand.
  virtual void interrupt() = 0;
  // The last text that a library reported since the last call.
  virtual std::string take_report() = 0;
  // Held while library code runs on this device.
  std::mutex& busy() { return busy_; }

 private:
  std::mutex busy_;
};

}  // namespace kl
#endif
