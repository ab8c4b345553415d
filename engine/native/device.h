// What a device is to the rest of the runtime: the CPU, or a GPU driven through its driver's library.
#ifndef KERNLOCK_DEVICE_H
#define KERNLOCK_DEVICE_H
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "failure.h"
#include "kernlock.h"

namespace kl {

class Library;
class Image;

// One launch of a program; args is the program's own copy.
struct Launch {
  std::shared_ptr<Library> library;
  uint32_t index;
  std::vector<uint64_t> args;  // 64-bit words, for alignment
  bool pdl;                    // the op keeps the rules of programmatic dependent launch
};

// One kernel of a device image, launched by data: no code of its package runs on this side.
struct ImageLaunch {
  std::shared_ptr<Image> image;
  uint32_t kernel;  // as `Image::find` numbers them
  uint32_t grid[3];
  uint32_t block[3];
  uint32_t shared_bytes;
  std::vector<uint64_t> params;   // the kernel's parameters, laid out as it takes them
  std::vector<uint32_t> offsets;  // of each, in bytes
  bool pdl;
};

// Moves bytes between memory that the process sees and the device's own.
struct Copy {
  void* to;
  const void* from;
  uint64_t bytes;
  bool up;  // to the device
};

using Step = std::variant<Launch, ImageLaunch, Copy>;

struct Program {
  std::vector<Step> steps;
  // The device's: how often it ran, and what it made of the steps to run them faster.
  mutable uint32_t runs = 0;
  mutable std::shared_ptr<void> recording;
};

struct OpFailure {
  static constexpr uint32_t unknown = UINT32_MAX;
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
  // Device memory, zeroed, at least 64-byte aligned; null, with the reason, when there is not so much.
  virtual void* allocate(uint64_t bytes, std::string& why) = 0;
  virtual void release(void* address, uint64_t bytes) = 0;
  // Memory that the process sees and that the device copies from and to fastest; zeroed, unless all of it is written first.
  virtual void* allocate_host(uint64_t bytes, bool zeroed, std::string& why) = 0;
  virtual void release_host(void* address, uint64_t bytes) = 0;
  // Runs every step and waits for the last, on the calling thread, one program at a time.
  virtual std::optional<OpFailure> execute(const Program& program) = 0;
  // Puts a program to work behind what is at work already, and returns; `finish` waits for the oldest of them. False: the
  // device cannot do that now (some never can), and the program has not begun.
  virtual bool begin(const Program&) { return false; }
  virtual std::optional<OpFailure> finish() { return std::nullopt; }
  // Waits for all that was begun; the caller holds `busy`.
  virtual void quiet() {}
  // Runs a program so many times and tells how long each run took, by the device's own clock where it has one. A first run
  // that is not among them makes it ready.
  virtual std::optional<OpFailure> time(const Program& program, uint32_t runs, std::vector<double>& milliseconds) = 0;
  // Bytes a second, read and written ones together, of copying a range of device memory: the best of several. 0, with the
  // reason, when there is no memory for it.
  virtual double copy_rate(uint64_t bytes, std::string& why) = 0;
  // Makes a running program end after the step at hand.
  virtual void interrupt() = 0;
  // Ends threads; the device runs nothing of worth afterwards.
  virtual void stop() = 0;

  // Keeps a text that a library reported.
  void report(const char* text);
  // The last text that was reported since the last call.
  std::string take_report();
  // Held while library code runs on this device.
  std::mutex& busy() { return busy_; }

 private:
  std::mutex busy_;
  std::mutex report_lock_;
  std::string report_;
};

}  // namespace kl
#endif
