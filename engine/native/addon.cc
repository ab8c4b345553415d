// The JavaScript face of the runtime. Only device.ts, memory.ts, library.ts and program.ts call it, so arguments are of the
// right kind; what can go wrong for a caller is thrown as an error with a `code`.
#include <cerrno>
#include <cstring>
#include <thread>

#include <napi.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cpu.h"
#include "cuda.h"
#include "library.h"
#include "runner.h"
#include "upload.h"

namespace kl {
namespace {

using Info = const Napi::CallbackInfo&;

Napi::Value refuse(Napi::Env env, const Failure& why) {
  Napi::Error error = Napi::Error::New(env, why.text);
  error.Set("code", why.code);
  error.ThrowAsJavaScriptException();
  return env.Undefined();
}

uint64_t number(const Napi::Value& value) { return static_cast<uint64_t>(value.As<Napi::Number>().Int64Value()); }

char* pointer(const Napi::Value& value) {
  bool lossless = false;
  return reinterpret_cast<char*>(value.As<Napi::BigInt>().Uint64Value(&lossless));
}

Napi::BigInt address(Napi::Env env, const void* at) { return Napi::BigInt::New(env, reinterpret_cast<uint64_t>(at)); }

template <typename T>
T& get(const Napi::Value& value) {
  return *value.As<Napi::External<T>>().Data();
}
template <typename T>
Napi::External<T> hold(Napi::Env env, T* value) {
  return Napi::External<T>::New(env, value, [](Napi::Env, T* old) { delete old; });
}

using LibraryRef = std::shared_ptr<Library>;
using ProgramRef = std::shared_ptr<Program>;
using ImageRef = std::shared_ptr<Image>;

// A device with its runner. It is never deleted: libraries and programs refer to it, and there are few. Its threads end at
// close or with the environment that opened it; when the whole process exits in the middle of a program, they just vanish.
struct Opened {
  std::unique_ptr<Device> owned;
  Device& device;
  // Whichever of the two it is.
  CpuDevice* cpu;
  CudaDevice* cuda;
  std::unique_ptr<Runner> runner;
  Napi::ThreadSafeFunction tell;
  uint32_t running = 0;  // the JavaScript thread's
  bool ended = false;

  Opened(Napi::Env env, std::unique_ptr<Device> opened)
      : owned(std::move(opened)), device(*owned), cpu(dynamic_cast<CpuDevice*>(owned.get())), cuda(dynamic_cast<CudaDevice*>(owned.get())) {
    tell = Napi::ThreadSafeFunction::New(env, Napi::Function::New(env, [](Info) {}), "kernlock", 0, 1);
    tell.Unref(env);
    runner = std::make_unique<Runner>(device);
    env.AddCleanupHook([this] { end(); });
  }
  void end() {
    if (std::exchange(ended, true)) return;
    runner.reset();
    device.stop();
    tell.Release();
  }
};

Napi::Value outcome(Napi::Env env, const std::optional<OpFailure>& failure) {
  if (!failure) return env.Undefined();
  Napi::Object object = Napi::Object::New(env);
  object.Set("step", failure->step);
  object.Set("status", failure->status);
  object.Set("text", failure->text);
  return object;
}

Napi::Value open_device(Info info) {
  auto* opened = new Opened(info.Env(), std::make_unique<CpuDevice>(info[0].As<Napi::Number>().Uint32Value()));
  return Napi::External<Opened>::New(info.Env(), opened);
}

// (path of the driver's library, device number, whether it compiles PTX) -> {handle, name, capability, multiprocessors, driver, free, total}
Napi::Value open_cuda(Info info) {
  Failure why;
  auto device = CudaDevice::open(info[0].As<Napi::String>().Utf8Value(), info[1].As<Napi::Number>().Int32Value(),
                                 info[2].As<Napi::Boolean>().Value(), why);
  if (!device) return refuse(info.Env(), why);
  uint64_t free = 0, total = 0;
  device->memory(free, total);
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("name", device->name());
  object.Set("capability", device->facts().capability);
  object.Set("multiprocessors", device->facts().multiprocessors);
  object.Set("driver", device->driver_version());
  object.Set("free", static_cast<double>(free));
  object.Set("total", static_cast<double>(total));
  object.Set("handle", Napi::External<Opened>::New(info.Env(), new Opened(info.Env(), std::move(device))));
  return object;
}

// (device, bytes): one piece of memory for all that will be allocated
Napi::Value reserve(Info info) {
  std::string why;
  CudaDevice* device = get<Opened>(info[0]).cuda;
  if (device != nullptr && !device->reserve(number(info[1]), why)) return refuse(info.Env(), {"KL_MEMORY_ALLOCATE", why});
  return info.Env().Undefined();
}

// device -> {free, total, inUse, mostUsed}, of a GPU
Napi::Value device_memory(Info info) {
  CudaDevice* device = get<Opened>(info[0]).cuda;
  Napi::Object object = Napi::Object::New(info.Env());
  uint64_t free = 0, total = 0;
  if (device != nullptr) device->memory(free, total);
  object.Set("free", static_cast<double>(free));
  object.Set("total", static_cast<double>(total));
  object.Set("inUse", static_cast<double>(device == nullptr ? 0 : device->in_use()));
  object.Set("mostUsed", static_cast<double>(device == nullptr ? 0 : device->most_used()));
  return object;
}

Napi::Value set_careful(Info info) {
  if (CudaDevice* device = get<Opened>(info[0]).cuda) device->set_careful(info[1].As<Napi::Boolean>().Value());
  return info.Env().Undefined();
}

Napi::Value close_device(Info info) {
  get<Opened>(info[0]).end();
  return info.Env().Undefined();
}

Napi::Value facts(Info info) {
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("level", cpu_level());
  object.Set("cores", usable_cores());
  return object;
}

Napi::Value allocate(Info info) {
  std::string why;
  void* at = get<Opened>(info[0]).device.allocate(number(info[1]), why);
  if (at == nullptr) return refuse(info.Env(), {"KL_MEMORY_ALLOCATE", why});
  return address(info.Env(), at);
}

Napi::Value release(Info info) {
  get<Opened>(info[0]).device.release(pointer(info[1]), number(info[2]));
  return info.Env().Undefined();
}

// (device, bytes, whether zeroed) -> address
Napi::Value allocate_host(Info info) {
  std::string why;
  void* at = get<Opened>(info[0]).device.allocate_host(number(info[1]), info[2].ToBoolean(), why);
  if (at == nullptr) return refuse(info.Env(), {"KL_MEMORY_ALLOCATE", why});
  return address(info.Env(), at);
}

Napi::Value release_host(Info info) {
  get<Opened>(info[0]).device.release_host(pointer(info[1]), number(info[2]));
  return info.Env().Undefined();
}

// (fd, offset, size) -> address; the pages around it are mapped too.
Napi::Value map_file(Info info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  const uint64_t offset = number(info[1]), size = number(info[2]);
  const uint64_t before = offset % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  struct stat file;
  if (fstat(fd, &file) != 0) return refuse(info.Env(), {"KL_MEMORY_MAP", std::strerror(errno)});
  // Touching a page past the end of the file would kill the process.
  if (offset + size > static_cast<uint64_t>(file.st_size)) return refuse(info.Env(), {"KL_MEMORY_MAP", "the file is shorter"});
  void* at = mmap(nullptr, size + before, PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset - before));
  if (at == MAP_FAILED) return refuse(info.Env(), {"KL_MEMORY_MAP", std::strerror(errno)});
  return address(info.Env(), static_cast<char*>(at) + before);
}

Napi::Value unmap_file(Info info) {
  const uint64_t before = reinterpret_cast<uint64_t>(pointer(info[0])) % static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  munmap(pointer(info[0]) - before, number(info[1]) + before);
  return info.Env().Undefined();
}

Napi::Value array_buffer(Info info) {
  return Napi::ArrayBuffer::New(info.Env(), pointer(info[0]), number(info[1]));
}

Napi::Value detach(Info info) {
  info[0].As<Napi::ArrayBuffer>().Detach();
  return info.Env().Undefined();
}

Napi::Value index_of_byte(Info info) {
  const char* begin = pointer(info[0]);
  const void* found = std::memchr(begin, info[2].As<Napi::Number>().Int32Value(), number(info[1]));
  return Napi::Number::New(info.Env(), found == nullptr ? -1 : static_cast<double>(static_cast<const char*>(found) - begin));
}

Napi::Value open_library(Info info) {
  Failure why;
  auto library = Library::open(info[0].As<Napi::Number>().Int32Value(), get<Opened>(info[1]).device, why);
  if (!library) return refuse(info.Env(), why);
  Napi::Array ops = Napi::Array::New(info.Env());
  for (uint32_t i = 0; i < library->api().op_count; ++i) {
    const kl_op& op = library->api().ops[i];
    Napi::Object entry = Napi::Object::New(info.Env());
    entry.Set("name", op.name);
    entry.Set("op", op.op);
    entry.Set("argsSize", op.args_size);
    ops.Set(i, entry);
  }
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("handle", hold(info.Env(), new LibraryRef(std::move(library))));
  object.Set("ops", ops);
  return object;
}

Napi::Value close_library(Info info) {
  get<LibraryRef>(info[0])->close();
  return info.Env().Undefined();
}

// (bytes, device) -> image
Napi::Value open_image(Info info) {
  Failure why;
  const auto bytes = info[0].As<Napi::Uint8Array>();
  CudaDevice* device = get<Opened>(info[1]).cuda;
  if (device == nullptr) return refuse(info.Env(), {"KL_LOAD_INSTANCE", "Device images are for GPUs."});
  auto image = Image::open(*device, bytes.Data(), bytes.ByteLength(), why);
  if (!image) return refuse(info.Env(), why);
  return hold(info.Env(), new ImageRef(std::move(image)));
}

// (image, name, dynamic shared memory) -> number of the kernel
Napi::Value image_kernel(Info info) {
  Failure why;
  uint32_t number = 0;
  if (!get<ImageRef>(info[0])->find(info[1].As<Napi::String>().Utf8Value(), info[2].As<Napi::Number>().Uint32Value(), number, why)) {
    return refuse(info.Env(), why);
  }
  return Napi::Number::New(info.Env(), number);
}

void three(const Napi::Value& value, uint32_t (&out)[3]) {
  const Napi::Array array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < 3; ++i) out[i] = array.Get(i).As<Napi::Number>().Uint32Value();
}

ImageLaunch image_launch_of(const Napi::Object& step) {
  ImageLaunch copy{};
  copy.image = get<ImageRef>(step.Get("image"));
  copy.kernel = step.Get("kernel").As<Napi::Number>().Uint32Value();
  three(step.Get("grid"), copy.grid);
  three(step.Get("block"), copy.block);
  copy.shared_bytes = step.Get("sharedBytes").As<Napi::Number>().Uint32Value();
  const auto params = step.Get("params").As<Napi::Uint8Array>();
  copy.params.resize((params.ByteLength() + 7) / 8);
  std::memcpy(copy.params.data(), params.Data(), params.ByteLength());
  const Napi::Array offsets = step.Get("offsets").As<Napi::Array>();
  for (uint32_t i = 0; i < offsets.Length(); ++i) copy.offsets.push_back(offsets.Get(i).As<Napi::Number>().Uint32Value());
  copy.pdl = step.Get("pdl").ToBoolean();
  return copy;
}

Launch launch_of(const Napi::Object& step) {
  const auto args = step.Get("args").As<Napi::Uint8Array>();
  Launch copy{get<LibraryRef>(step.Get("library")), step.Get("index").As<Napi::Number>().Uint32Value(), {}, step.Get("pdl").ToBoolean()};
  copy.args.resize((args.ByteLength() + 7) / 8);
  std::memcpy(copy.args.data(), args.Data(), args.ByteLength());
  return copy;
}

Step step_of(const Napi::Object& step) {
  if (step.Has("library")) return launch_of(step);
  if (step.Has("image")) return image_launch_of(step);
  return Copy{pointer(step.Get("to")), pointer(step.Get("from")), number(step.Get("bytes")), step.Get("up").ToBoolean()};
}

// ([{library, index, args, pdl} | {image, kernel, grid, block, …} | {to, from, bytes, up}]) -> program
Napi::Value create_program(Info info) {
  auto program = std::make_shared<Program>();
  const Napi::Array steps = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < steps.Length(); ++i) {
    program->steps.push_back(step_of(steps.Get(i).As<Napi::Object>()));
  }
  return hold(info.Env(), new ProgramRef(std::move(program)));
}

Napi::Value patch_program(Info info) {
  Program& program = *get<ProgramRef>(info[0]);
  Launch& launch = std::get<Launch>(program.steps[info[1].As<Napi::Number>().Uint32Value()]);
  const auto bytes = info[3].As<Napi::Uint8Array>();
  std::memcpy(reinterpret_cast<char*>(launch.args.data()) + number(info[2]), bytes.Data(), bytes.ByteLength());
  program.recording.reset();
  return info.Env().Undefined();
}

Napi::Value run_program(Info info) {
  Opened& opened = get<Opened>(info[0]);
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  if (opened.running++ == 0) opened.tell.Ref(info.Env());
  opened.runner->submit(get<ProgramRef>(info[1]), [&opened, deferred](std::optional<OpFailure> failure) {
    opened.tell.NonBlockingCall([&opened, deferred, failure = std::move(failure)](Napi::Env env, Napi::Function) {
      if (--opened.running == 0) opened.tell.Unref(env);
      deferred.Resolve(outcome(env, failure));
    });
  });
  return deferred.Promise();
}

Napi::Value run_program_sync(Info info) {
  return outcome(info.Env(), get<Opened>(info[0]).device.execute(*get<ProgramRef>(info[1])));
}

// (device, {jobs, slots, partBytes, readers, overlap}, onBytes) -> promise of {files, device} (milliseconds) or of what failed
Napi::Value run_upload_jobs(Info info) {
  Opened& opened = get<Opened>(info[0]);
  const Napi::Object given = info[1].As<Napi::Object>();
  auto upload = std::make_shared<Upload>();
  const Napi::Array jobs = given.Get("jobs").As<Napi::Array>(), slots = given.Get("slots").As<Napi::Array>();
  for (uint32_t i = 0; i < jobs.Length(); ++i) {
    const Napi::Object job = jobs.Get(i).As<Napi::Object>();
    const Napi::Array pieces = job.Get("pieces").As<Napi::Array>(), launches = job.Get("launches").As<Napi::Array>();
    Job copy;
    for (uint32_t p = 0; p < pieces.Length(); ++p) {
      const Napi::Object piece = pieces.Get(p).As<Napi::Object>();
      copy.pieces.push_back({piece.Get("fd").As<Napi::Number>().Int32Value(), number(piece.Get("offset")), number(piece.Get("bytes")),
                             pointer(piece.Get("to")), piece.Get("refuse").As<Napi::Number>().Uint32Value()});
    }
    for (uint32_t p = 0; p < launches.Length(); ++p) copy.launches.push_back(step_of(launches.Get(p).As<Napi::Object>()));
    upload->jobs.push_back(std::move(copy));
  }
  for (uint32_t i = 0; i < slots.Length(); ++i) upload->slots.push_back(pointer(slots.Get(i)));
  upload->part_bytes = std::max<uint64_t>(1, number(given.Get("partBytes")));
  upload->readers = given.Get("readers").As<Napi::Number>().Uint32Value();
  upload->overlap = given.Get("overlap").ToBoolean();
  const auto deferred = Napi::Promise::Deferred::New(info.Env());
  auto told = Napi::ThreadSafeFunction::New(info.Env(), info[2].As<Napi::Function>(), "kernlock-upload", 0, 1);
  CudaDevice* device = opened.cuda;
  std::thread([upload, deferred, told, device]() mutable {
    UploadTimes times;
    auto failure = run_upload(*device, *upload, times, [&told](uint64_t bytes) {
      told.NonBlockingCall([bytes](Napi::Env env, Napi::Function call) { call.Call({Napi::Number::New(env, static_cast<double>(bytes))}); });
    });
    told.NonBlockingCall([deferred, times, failure = std::move(failure)](Napi::Env env, Napi::Function) {
      Napi::Object object = Napi::Object::New(env);
      if (!failure) {
        object.Set("files", times.files);
        object.Set("device", times.device);
        return deferred.Resolve(object);
      }
      object.Set("code", failure->why.code);
      object.Set("text", failure->why.text);
      object.Set("job", failure->job);
      object.Set("piece", failure->piece);
      object.Set("index", static_cast<double>(failure->index));
      object.Set("byte", failure->byte);
      object.Set("op", outcome(env, failure->op));
      deferred.Resolve(object);
    });
    told.Release();
  }).detach();
  return deferred.Promise();
}

// (device, program, runs) -> milliseconds of each run, or what failed
Napi::Value time_program(Info info) {
  std::vector<double> taken;
  const auto failure = get<Opened>(info[0]).device.time(*get<ProgramRef>(info[1]), info[2].As<Napi::Number>().Uint32Value(), taken);
  if (failure) return outcome(info.Env(), failure);
  Napi::Array array = Napi::Array::New(info.Env(), taken.size());
  for (uint32_t i = 0; i < taken.size(); ++i) array.Set(i, taken[i]);
  return array;
}

// (device, bytes) -> bytes a second, read and written
Napi::Value time_copy(Info info) {
  std::string why;
  const double rate = get<Opened>(info[0]).device.copy_rate(number(info[1]), why);
  if (rate <= 0) return refuse(info.Env(), {"KL_MEMORY_ALLOCATE", why});
  return Napi::Number::New(info.Env(), rate);
}

// device -> milliseconds during which a program was at work
Napi::Value busy_time(Info info) {
  Opened& opened = get<Opened>(info[0]);
  return Napi::Number::New(info.Env(), opened.runner ? static_cast<double>(opened.runner->busy()) * 1e-6 : 0);
}

Napi::Value time_read_loop(Info info) {
  CpuDevice* cpu = get<Opened>(info[0]).cpu;
  if (cpu == nullptr) return Napi::Number::New(info.Env(), 0);
  const double seconds = read_loop(*cpu, pointer(info[1]), number(info[2]),
                                   info[3].As<Napi::Number>().Uint32Value());
  return Napi::Number::New(info.Env(), seconds);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto offer = [&](const char* name, Napi::Value (*function)(Info)) {
    exports.Set(name, Napi::Function::New(env, function, name));
  };
  offer("openDevice", open_device);
  offer("openCuda", open_cuda);
  offer("reserve", reserve);
  offer("deviceMemory", device_memory);
  offer("setCareful", set_careful);
  offer("closeDevice", close_device);
  offer("facts", facts);
  offer("allocate", allocate);
  offer("release", release);
  offer("allocateHost", allocate_host);
  offer("releaseHost", release_host);
  offer("mapFile", map_file);
  offer("unmapFile", unmap_file);
  offer("arrayBuffer", array_buffer);
  offer("detach", detach);
  offer("indexOfByte", index_of_byte);
  offer("openLibrary", open_library);
  offer("closeLibrary", close_library);
  offer("openImage", open_image);
  offer("imageKernel", image_kernel);
  offer("createProgram", create_program);
  offer("patchProgram", patch_program);
  offer("runProgram", run_program);
  offer("runProgramSync", run_program_sync);
  offer("runUpload", run_upload_jobs);
  offer("timeReadLoop", time_read_loop);
  offer("timeProgram", time_program);
  offer("timeCopy", time_copy);
  offer("busyTime", busy_time);
  return exports;
}

}  // namespace
}  // namespace kl

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return kl::init(env, exports); }
NODE_API_MODULE(kernlock, Init)
