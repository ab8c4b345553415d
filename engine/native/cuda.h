// An NVIDIA GPU as a device: memory, kernel modules, and programs replayed as graphs.
#ifndef KERNLOCK_CUDA_H
#define KERNLOCK_CUDA_H
#include <atomic>
#include <map>

#include "cuda_driver.h"
#include "device.h"

namespace kl {

// A device image (cubin) that is loaded on a device.
class Image {
 public:
  static std::shared_ptr<Image> open(class CudaDevice& device, const void* bytes, uint64_t size, Failure& why);
  ~Image();
  Image(const Image&) = delete;
  // The number of a kernel; false, with the reason, when the image has none of that name or it takes no such shared memory.
  bool find(const std::string& name, uint32_t shared_bytes, uint32_t& number, Failure& why);
  kl_function kernel(uint32_t number) const { return kernels_[number]; }

 private:
  explicit Image(CudaDevice& device) : device_(device) {}
  CudaDevice& device_;
  kl_module module_ = nullptr;
  std::vector<kl_function> kernels_;
};

class CudaDevice final : public Device {
 public:
  // Opens the driver at `path`, which compiles PTX or does not, and device number `ordinal`; null with the reason when that
  // fails.
  static std::unique_ptr<CudaDevice> open(const std::string& path, int ordinal, bool compile_ptx, Failure& why);

  const kl_device& facts() const override { return facts_; }
  const kl_host& host() const override { return host_; }
  void* allocate(uint64_t bytes, std::string& why) override;
  void release(void* address, uint64_t bytes) override;
  void* allocate_host(uint64_t bytes, bool zeroed, std::string& why) override;
  void release_host(void* address, uint64_t bytes) override;
  std::optional<OpFailure> execute(const Program& program) override;
  bool begin(const Program& program) override;
  std::optional<OpFailure> finish() override;
  void quiet() override;
  std::optional<OpFailure> time(const Program& program, uint32_t runs, std::vector<double>& milliseconds) override;
  double copy_rate(uint64_t bytes, std::string& why) override;
  void interrupt() override { interrupted_.store(true); }
  void stop() override;

  // One piece of device memory from which allocate takes as long as it lasts. False, with the reason, when there is not so much.
  bool reserve(uint64_t bytes, std::string& why);

  const std::string& name() const { return name_; }
  // 13000 for CUDA 13.0.
  int driver_version() const { return driver_version_; }
  void memory(uint64_t& free, uint64_t& total);
  // Bytes given out now, and the most there were.
  uint64_t in_use() const { return in_use_; }
  // The most that the device had less than when this process had its context on it, as far as anybody looked: what was
  // allocated, kernels, and what the driver took for them. Whatever else uses the device counts too.
  uint64_t most_used() const { return first_free_ > least_free_ ? first_free_ - least_free_ : 0; }

  const cuda::Driver& driver() const { return *driver_; }
  cuda::Stream stream() const { return stream_; }
  // Makes this the calling thread's device.
  void enter();
  // Puts one step into the stream.
  kl_status issue(const Step& step);
  // KL_OK, or KL_DEVICE with the call and the driver's words reported.
  kl_status check(cuda::Result result, const char* call);
  // Programs run launch by launch, each waited for: slow, and a fault names its op.
  void set_careful(bool careful) { careful_ = careful; }

 private:
  CudaDevice() = default;
  bool start(const std::string& path, int ordinal, bool compile_ptx, Failure& why);
  void fill_host_table();
  kl_status launch(const kl_launch& launch);
  kl_status issue(const Copy& copy);
  kl_status issue(const Launch& launch);
  kl_status issue(const ImageLaunch& launch);
  std::optional<OpFailure> run_each(const Program& program);
  std::optional<OpFailure> record(const Program& program);
  // The program as a graph, after a first run that goes step by step.
  std::optional<OpFailure> ready(const Program& program);
  // Looks how much memory is left; the caller holds memory_lock_.
  void look();

  const cuda::Driver* driver_ = nullptr;
  cuda::Context context_ = nullptr;
  cuda::Stream stream_ = nullptr;
  kl_device facts_{};
  kl_host host_{};
  std::string name_;
  int driver_version_ = 0;
  std::atomic<bool> interrupted_{false};
  bool careful_ = false;
  // Whether what was last put into the stream is a kernel: only then may the next one begin before it ends.
  bool after_kernel_ = false;
  // Set once the driver reported a fault after which a context is of no use.
  std::string lost_;
  // One for each program that may be at work at once, in turn: `begun_` of them were begun, `finished_` waited for.
  static constexpr uint32_t at_work = 4;
  cuda::Event events_[at_work] = {};
  uint32_t begun_ = 0, finished_ = 0;

  std::mutex memory_lock_;
  cuda::Pointer arena_ = 0;
  uint64_t arena_bytes_ = 0;
  uint64_t arena_used_ = 0;
  uint64_t in_use_ = 0;
  uint64_t first_free_ = 0, least_free_ = 0;
  std::map<cuda::Pointer, uint64_t> single_;  // allocations outside the arena
};

}  // namespace kl
#endif
