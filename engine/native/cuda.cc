#include "cuda.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "library.h"

namespace kl {
namespace {

constexpr uint64_t round_up(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }
constexpr uint64_t alignment = 256;

cuda::Pointer device_pointer(const void* address) { return reinterpret_cast<cuda::Pointer>(address); }

}  // namespace

std::unique_ptr<CudaDevice> CudaDevice::open(const std::string& path, int ordinal, bool compile_ptx, Failure& why) {
  std::unique_ptr<CudaDevice> device(new CudaDevice);
  return device->start(path, ordinal, compile_ptx, why) ? std::move(device) : nullptr;
}

bool CudaDevice::start(const std::string& path, int ordinal, bool compile_ptx, Failure& why) {
  driver_ = cuda::Driver::open(path, compile_ptx, why);
  if (driver_ == nullptr) return false;
  const auto failed = [&](cuda::Result result, const char* call) {
    if (result == cuda::success) return false;
    why = {"KL_DEVICE_OPEN", "Device " + std::to_string(ordinal) + " does not open: " + call + " gave " + driver_->describe(result) + "."};
    return true;
  };
  int count = 0, device = 0, value = 0;
  if (failed(driver_->device_count(&count), "cuDeviceGetCount")) return false;
  if (ordinal < 0 || ordinal >= count) {
    why = {"KL_DEVICE_OPEN", "There is no device " + std::to_string(ordinal) + "; the driver has " + std::to_string(count) + "."};
    return false;
  }
  char name[256] = {};
  if (failed(driver_->device_get(&device, ordinal), "cuDeviceGet") || failed(driver_->device_name(name, sizeof name - 1, device), "cuDeviceGetName") ||
      failed(driver_->driver_version(&driver_version_), "cuDriverGetVersion")) {
    return false;
  }
  name_ = name;
  const auto attribute = [&](cuda::DeviceAttribute which) {
    value = 0;
    driver_->device_attribute(&value, which, device);
    return static_cast<uint32_t>(value);
  };
  facts_.size = sizeof facts_;
  facts_.kind = KL_DEVICE_CUDA;
  facts_.ordinal = ordinal;
  facts_.workers = 1;
  facts_.capability = 10 * attribute(cuda::capability_major) + attribute(cuda::capability_minor);
  facts_.multiprocessors = attribute(cuda::multiprocessor_count);
  facts_.shared_bytes = attribute(cuda::shared_per_block_optin);
  facts_.peers = 1;
  if (failed(driver_->context_retain(&context_, device), "cuDevicePrimaryCtxRetain") || failed(driver_->context_set(context_), "cuCtxSetCurrent") ||
      failed(driver_->stream_create(&stream_, cuda::stream_non_blocking), "cuStreamCreate")) {
    return false;
  }
  for (cuda::Event& event : events_) {
    if (failed(driver_->event_create(&event, cuda::event_disable_timing), "cuEventCreate")) return false;
  }
  uint64_t total = 0;
  memory(first_free_, total);
  fill_host_table();
  return true;
}

void CudaDevice::fill_host_table() {
  host_.size = sizeof host_;
  host_.abi = KL_ABI;
  host_.self = this;
  host_.module_load = [](void* pointer, const void* image, uint64_t bytes, kl_module* out) {
    CudaDevice& device = *static_cast<CudaDevice*>(pointer);
    // An ELF file or a container of them. Text would be PTX, which the driver compiles: another program than the pinned one.
    // PTX in a container is compiled where the driver was opened for that, and only if no machine code beside it fits.
    static constexpr unsigned char elf[4] = {0x7f, 'E', 'L', 'F'}, container[4] = {0x50, 0xed, 0x55, 0xba};
    if (image == nullptr || bytes < 4 || (std::memcmp(image, elf, 4) != 0 && std::memcmp(image, container, 4) != 0)) {
      device.report("The image is no GPU binary.");
      return static_cast<kl_status>(KL_UNSUPPORTED);
    }
    device.enter();
    return device.check(device.driver_->module_load(reinterpret_cast<cuda::Module*>(out), image), "cuModuleLoadData");
  };
  host_.module_unload = [](void* pointer, kl_module module) {
    CudaDevice& device = *static_cast<CudaDevice*>(pointer);
    device.enter();
    return device.check(device.driver_->module_unload(reinterpret_cast<cuda::Module>(module)), "cuModuleUnload");
  };
  host_.function_get = [](void* pointer, kl_module module, const char* name, kl_function* out) {
    CudaDevice& device = *static_cast<CudaDevice*>(pointer);
    device.enter();
    cuda::Function function = nullptr;
    const cuda::Result found = device.driver_->module_function(&function, reinterpret_cast<cuda::Module>(module), name);
    if (found != cuda::success) {
      device.report(("The image has no kernel \"" + std::string(name) + "\": " + device.driver_->describe(found)).c_str());
      return static_cast<kl_status>(KL_DEVICE);
    }
    *out = reinterpret_cast<kl_function>(function);
    // Now: a function that loads at its first launch would break the capture of that launch.
    return device.check(device.driver_->function_load(function), "cuFuncLoad");
  };
  host_.function_shared = [](void* pointer, kl_function function, uint32_t bytes) {
    CudaDevice& device = *static_cast<CudaDevice*>(pointer);
    device.enter();
    return device.check(device.driver_->function_set(reinterpret_cast<cuda::Function>(function), cuda::dynamic_shared_bytes, static_cast<int>(bytes)),
                        "cuFuncSetAttribute");
  };
  host_.launch = [](void* pointer, const kl_launch* launch) { return static_cast<CudaDevice*>(pointer)->launch(*launch); };
  host_.memset_async = [](void* pointer, void* to, uint8_t value, uint64_t bytes, void* stream) {
    CudaDevice& device = *static_cast<CudaDevice*>(pointer);
    device.after_kernel_ = false;
    return device.check(device.driver_->fill(device_pointer(to), value, bytes, static_cast<cuda::Stream>(stream)), "cuMemsetD8Async");
  };
  host_.tensor_map = [](void* pointer, void* map, uint32_t dtype, uint32_t rank, void* address, const uint64_t* sizes, const uint64_t* strides,
                        const uint32_t* box, const uint32_t* steps, uint32_t interleave, uint32_t swizzle, uint32_t promotion, uint32_t fill) {
    CudaDevice& device = *static_cast<CudaDevice*>(pointer);
    return device.check(device.driver_->tensor_map(map, static_cast<int>(dtype), rank, address, sizes, strides, box, steps, static_cast<int>(interleave),
                                                   static_cast<int>(swizzle), static_cast<int>(promotion), static_cast<int>(fill)),
                        "cuTensorMapEncodeTiled");
  };
  host_.report = [](void* pointer, const char* text) { static_cast<CudaDevice*>(pointer)->report(text); };
}

void CudaDevice::enter() { driver_->context_set(context_); }

kl_status CudaDevice::check(cuda::Result result, const char* call) {
  if (result == cuda::success) return KL_OK;
  report((std::string(call) + " gave " + driver_->describe(result)).c_str());
  return KL_DEVICE;
}

kl_status CudaDevice::launch(const kl_launch& launch) {
  if (launch.size != sizeof(kl_launch)) return KL_ABI_MISMATCH;
  if (launch.function == nullptr) {
    report("A launch names no function.");
    return KL_INVALID;
  }
  cuda::Attribute attributes[3] = {};
  unsigned count = 0;
  if (launch.pdl != 0 && after_kernel_ && facts_.capability >= 90) {  // older devices know no such attribute
    attributes[count].id = cuda::programmatic_serialization;
    attributes[count++].value.flag = 1;
  }
  if (launch.cluster[0] != 0) {
    attributes[count].id = cuda::cluster_dimension;
    std::memcpy(attributes[count++].value.cluster, launch.cluster, sizeof launch.cluster);
  }
  if (launch.cooperative != 0) {
    attributes[count].id = cuda::cooperative;
    attributes[count++].value.flag = 1;
  }
  cuda::LaunchConfig config{};
  std::memcpy(config.grid, launch.grid, sizeof config.grid);
  std::memcpy(config.block, launch.block, sizeof config.block);
  config.shared_bytes = launch.shared_bytes;
  config.stream = static_cast<cuda::Stream>(launch.stream);
  config.attributes = attributes;
  config.attribute_count = count;
  const kl_status status =
      check(driver_->launch(&config, reinterpret_cast<cuda::Function>(launch.function), launch.params, nullptr), "cuLaunchKernelEx");
  after_kernel_ = status == KL_OK;
  return status;
}

bool CudaDevice::reserve(uint64_t bytes, std::string& why) {
  const std::lock_guard guard(memory_lock_);
  enter();
  const uint64_t size = round_up(bytes, alignment);
  cuda::Result result = driver_->memory_allocate(&arena_, size);
  if (result == cuda::success) result = driver_->fill(arena_, 0, size, stream_);
  if (result == cuda::success) result = driver_->stream_wait(stream_);
  if (result != cuda::success) {
    why = driver_->describe(result);
    return false;
  }
  arena_bytes_ = size;
  look();
  return true;
}

void* CudaDevice::allocate(uint64_t bytes, std::string& why) {
  const std::lock_guard guard(memory_lock_);
  const uint64_t size = round_up(bytes, alignment);
  if (arena_used_ + size <= arena_bytes_) {
    const cuda::Pointer at = arena_ + arena_used_;
    arena_used_ += size;
    in_use_ += size;
    return reinterpret_cast<void*>(at);
  }
  enter();
  cuda::Pointer at = 0;
  cuda::Result result = driver_->memory_allocate(&at, size);
  if (result == cuda::success) {
    single_[at] = size;
    result = driver_->fill(at, 0, size, stream_);
    if (result == cuda::success) result = driver_->stream_wait(stream_);
  }
  if (result != cuda::success) {
    why = driver_->describe(result);
    return nullptr;
  }
  in_use_ += size;
  look();
  return reinterpret_cast<void*>(at);
}

void CudaDevice::look() {
  size_t free = 0, total = 0;
  if (driver_->memory_info(&free, &total) == cuda::success) least_free_ = std::min<uint64_t>(least_free_, free);
}

void CudaDevice::release(void* address, uint64_t) {
  const std::lock_guard guard(memory_lock_);
  const auto found = single_.find(device_pointer(address));
  if (found == single_.end()) return;  // the arena goes as a whole
  enter();
  driver_->memory_free(found->first);
  in_use_ -= found->second;
  single_.erase(found);
}

void* CudaDevice::allocate_host(uint64_t bytes, bool zeroed, std::string& why) {
  enter();
  void* at = nullptr;
  if (const cuda::Result result = driver_->host_allocate(&at, bytes, cuda::host_portable); result != cuda::success) {
    why = driver_->describe(result);
    return nullptr;
  }
  if (zeroed) std::memset(at, 0, bytes);
  return at;
}

void CudaDevice::release_host(void* address, uint64_t) {
  enter();
  driver_->host_free(address);
}

void CudaDevice::memory(uint64_t& free, uint64_t& total) {
  size_t a = 0, b = 0;
  enter();
  driver_->memory_info(&a, &b);
  free = a;
  total = b;
  const std::lock_guard guard(memory_lock_);
  least_free_ = least_free_ == 0 ? free : std::min(least_free_, free);
}

void CudaDevice::stop() {
  const std::lock_guard guard(busy());
  const std::lock_guard memory_guard(memory_lock_);
  enter();
  driver_->stream_wait(stream_);
  for (const auto& [at, bytes] : single_) driver_->memory_free(at);
  single_.clear();
  if (arena_ != 0) driver_->memory_free(std::exchange(arena_, 0));
  arena_bytes_ = arena_used_ = in_use_ = 0;
}

kl_status CudaDevice::issue(const Step& step) {
  return std::visit([this](const auto& one) { return issue(one); }, step);
}

kl_status CudaDevice::issue(const Copy& copy) {
  after_kernel_ = false;
  return copy.up ? check(driver_->copy_up(device_pointer(copy.to), copy.from, copy.bytes, stream_), "cuMemcpyHtoDAsync")
                 : check(driver_->copy_down(copy.to, device_pointer(copy.from), copy.bytes, stream_), "cuMemcpyDtoHAsync");
}

kl_status CudaDevice::issue(const Launch& launch) {
  kl_context context{};
  context.size = sizeof context;
  context.flags = launch.pdl ? 1 : 0;
  context.stream = stream_;
  return launch.library->launch(launch.index, launch.args.data(), context);
}

kl_status CudaDevice::issue(const ImageLaunch& launch) {
  std::vector<void*> params;
  for (const uint32_t offset : launch.offsets) {
    params.push_back(const_cast<char*>(reinterpret_cast<const char*>(launch.params.data())) + offset);
  }
  kl_launch low{};
  low.size = sizeof low;
  std::memcpy(low.grid, launch.grid, sizeof low.grid);
  std::memcpy(low.block, launch.block, sizeof low.block);
  low.shared_bytes = launch.shared_bytes;
  low.pdl = launch.pdl ? 1 : 0;
  low.function = launch.image->kernel(launch.kernel);
  low.stream = stream_;
  low.params = params.data();
  return this->launch(low);
}

std::shared_ptr<Image> Image::open(CudaDevice& device, const void* bytes, uint64_t size, Failure& why) {
  const std::lock_guard guard(device.busy());
  std::shared_ptr<Image> image(new Image(device));
  device.take_report();
  if (device.host().module_load(device.host().self, bytes, size, &image->module_) == KL_OK) return image;
  why = {"KL_LOAD_INSTANCE", "The device does not take the image: " + device.take_report()};
  image->module_ = nullptr;
  return nullptr;
}

Image::~Image() {
  if (module_ != nullptr) device_.host().module_unload(device_.host().self, module_);
}

bool Image::find(const std::string& name, uint32_t shared_bytes, uint32_t& number, Failure& why) {
  const std::lock_guard guard(device_.busy());
  const kl_host& host = device_.host();
  kl_function function = nullptr;
  kl_status status = host.function_get(host.self, module_, name.c_str(), &function);
  if (status == KL_OK && shared_bytes > 0) status = host.function_shared(host.self, function, shared_bytes);
  if (status != KL_OK) {
    why = {"KL_LOAD_SYMBOL", device_.take_report()};
    return false;
  }
  number = static_cast<uint32_t>(kernels_.size());
  kernels_.push_back(function);
  return true;
}

// The first run of a program goes step by step, each waited for, so that a fault names its op; then it is captured once and
// replayed from there on.
std::optional<OpFailure> CudaDevice::execute(const Program& program) {
  const std::lock_guard guard(busy());
  if (!lost_.empty()) return OpFailure{OpFailure::unknown, KL_DEVICE, lost_};
  enter();
  take_report();
  if (careful_ || program.runs == 0) {
    const auto failure = run_each(program);
    if (!failure) ++program.runs;
    return failure;
  }
  if (const auto failure = ready(program)) return failure;
  kl_status status = check(driver_->graph_launch(static_cast<cuda::GraphExec>(program.recording.get()), stream_), "cuGraphLaunch");
  if (status == KL_OK) status = check(driver_->stream_wait(stream_), "waiting for the program");
  ++program.runs;
  if (status == KL_OK) return std::nullopt;
  lost_ = take_report();
  return OpFailure{OpFailure::unknown, status, lost_};
}

std::optional<OpFailure> CudaDevice::ready(const Program& program) {
  if (program.runs == 0) {
    if (const auto failure = run_each(program)) return failure;
    ++program.runs;
  }
  return program.recording ? std::nullopt : record(program);
}

bool CudaDevice::begin(const Program& program) {
  const std::lock_guard guard(busy());
  // What has to be looked at step by step is not begun: nothing may stand behind it.
  if (careful_ || !lost_.empty() || !program.recording || begun_ - finished_ == at_work) return false;
  enter();
  take_report();
  kl_status status = check(driver_->graph_launch(static_cast<cuda::GraphExec>(program.recording.get()), stream_), "cuGraphLaunch");
  if (status == KL_OK) status = check(driver_->event_record(events_[begun_ % at_work], stream_), "cuEventRecord");
  if (status != KL_OK) {
    lost_ = take_report();
    return false;
  }
  ++begun_;
  ++program.runs;
  return true;
}

std::optional<OpFailure> CudaDevice::finish() {
  cuda::Event event = nullptr;
  {
    const std::lock_guard guard(busy());
    if (begun_ == finished_) return std::nullopt;
    event = events_[finished_ % at_work];
  }
  enter();
  const cuda::Result result = driver_->event_wait(event);
  const std::lock_guard guard(busy());
  ++finished_;
  if (result != cuda::success && lost_.empty()) lost_ = "waiting for the program gave " + driver_->describe(result);
  // A fault shows with whichever wait comes first; what stands behind it has not run.
  return lost_.empty() ? std::nullopt : std::optional(OpFailure{OpFailure::unknown, KL_DEVICE, lost_});
}

void CudaDevice::quiet() {
  enter();
  driver_->stream_wait(stream_);
}

std::optional<OpFailure> CudaDevice::time(const Program& program, uint32_t runs, std::vector<double>& milliseconds) {
  const std::lock_guard guard(busy());
  if (!lost_.empty()) return OpFailure{OpFailure::unknown, KL_DEVICE, lost_};
  enter();
  take_report();
  if (const auto failure = ready(program)) return failure;
  const auto exec = static_cast<cuda::GraphExec>(program.recording.get());
  cuda::Event from = nullptr, to = nullptr;
  kl_status status = check(driver_->event_create(&from, cuda::event_default), "cuEventCreate");
  if (status == KL_OK) status = check(driver_->event_create(&to, cuda::event_default), "cuEventCreate");
  for (uint32_t run = 0; status == KL_OK && run <= runs; ++run) {
    float taken = 0;
    if (status == KL_OK) status = check(driver_->event_record(from, stream_), "cuEventRecord");
    if (status == KL_OK) status = check(driver_->graph_launch(exec, stream_), "cuGraphLaunch");
    if (status == KL_OK) status = check(driver_->event_record(to, stream_), "cuEventRecord");
    if (status == KL_OK) status = check(driver_->event_wait(to), "waiting for the program");
    if (status == KL_OK) status = check(driver_->event_elapsed(&taken, from, to), "cuEventElapsedTime");
    if (status == KL_OK && run > 0) milliseconds.push_back(taken);
    if (status == KL_OK && interrupted_.load(std::memory_order_relaxed)) break;
  }
  if (from != nullptr) driver_->event_destroy(from);
  if (to != nullptr) driver_->event_destroy(to);
  if (status == KL_OK) return std::nullopt;
  lost_ = take_report();
  return OpFailure{OpFailure::unknown, status, lost_};
}

double CudaDevice::copy_rate(uint64_t bytes, std::string& why) {
  void* to = allocate(bytes, why);
  void* from = to == nullptr ? nullptr : allocate(bytes, why);
  double best = 0;
  if (from != nullptr) {
    const std::lock_guard guard(busy());
    enter();
    cuda::Event begin = nullptr, end = nullptr;
    cuda::Result result = driver_->event_create(&begin, cuda::event_default);
    if (result == cuda::success) result = driver_->event_create(&end, cuda::event_default);
    for (int pass = 0; result == cuda::success && pass < 10; ++pass) {
      float taken = 0;
      result = driver_->event_record(begin, stream_);
      if (result == cuda::success) result = driver_->copy_within(device_pointer(to), device_pointer(from), bytes, stream_);
      if (result == cuda::success) result = driver_->event_record(end, stream_);
      if (result == cuda::success) result = driver_->event_wait(end);
      if (result == cuda::success) result = driver_->event_elapsed(&taken, begin, end);
      if (result == cuda::success && taken > 0) best = std::max(best, 2 * static_cast<double>(bytes) / (taken * 1e-3));
    }
    if (result != cuda::success) why = driver_->describe(result);
    if (begin != nullptr) driver_->event_destroy(begin);
    if (end != nullptr) driver_->event_destroy(end);
  }
  if (to != nullptr) release(to, bytes);
  if (from != nullptr) release(from, bytes);
  return best;
}

std::optional<OpFailure> CudaDevice::run_each(const Program& program) {
  for (uint32_t i = 0; i < program.steps.size(); ++i) {
    if (interrupted_.load(std::memory_order_relaxed)) return OpFailure{i, KL_DEVICE, "The device is closing."};
    after_kernel_ = false;
    kl_status status = issue(program.steps[i]);
    if (status == KL_OK && check(driver_->stream_wait(stream_), "running it") != KL_OK) {
      lost_ = take_report();
      return OpFailure{i, KL_DEVICE, lost_};
    }
    if (status != KL_OK) return OpFailure{i, status, take_report()};
  }
  return std::nullopt;
}

std::optional<OpFailure> CudaDevice::record(const Program& program) {
  cuda::Graph graph = nullptr;
  std::optional<OpFailure> failure;
  if (check(driver_->capture_begin(stream_, cuda::capture_thread_local), "cuStreamBeginCapture") != KL_OK) {
    return OpFailure{OpFailure::unknown, KL_DEVICE, take_report()};
  }
  after_kernel_ = false;
  for (uint32_t i = 0; i < program.steps.size() && !failure; ++i) {
    const kl_status status = issue(program.steps[i]);
    if (status != KL_OK) failure = OpFailure{i, status, take_report()};
  }
  const cuda::Result ended = driver_->capture_end(stream_, &graph);
  cuda::GraphExec exec = nullptr;
  if (!failure && (check(ended, "cuStreamEndCapture") != KL_OK || check(driver_->graph_instantiate(&exec, graph, 0), "cuGraphInstantiate") != KL_OK)) {
    failure = OpFailure{OpFailure::unknown, KL_DEVICE, take_report()};
  }
  if (graph != nullptr) driver_->graph_destroy(graph);
  if (exec != nullptr) {
    const cuda::Driver* driver = driver_;
    program.recording = std::shared_ptr<void>(exec, [driver](void* old) { driver->graph_exec_destroy(static_cast<cuda::GraphExec>(old)); });
  }
  return failure;
}

}  // namespace kl
