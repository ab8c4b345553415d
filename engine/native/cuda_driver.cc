#include "cuda_driver.h"

#include <cstdlib>
#include <mutex>

#include <dlfcn.h>

namespace kl::cuda {

const Driver* Driver::open(const std::string& path, bool compile_ptx, Failure& why) {
  static std::mutex lock;
  static Driver driver;
  static std::string opened;
  static bool compiles = false;
  const std::lock_guard guard(lock);
  const auto refuse = [&why](const std::string& text) {
    why = {"KL_DEVICE_DRIVER", text};
    return nullptr;
  };
  if (!opened.empty() && opened != path) return refuse("This process uses the driver " + opened + " already.");
  if (!opened.empty() && compiles != compile_ptx) {
    return refuse(std::string("This process has the driver with its PTX compiler ") + (compiles ? "on" : "off") + " already.");
  }
  if (!opened.empty()) return &driver;
  // No compiling of PTX but where it was asked for, and never in place of machine code; every kernel loaded at once, devices
  // in the order of nvidia-smi, nothing kept on disk (what was written there once would be run without having been
  // verified): the driver reads these when it starts.
  for (const char* name : {"CUDA_DISABLE_PTX_JIT", "CUDA_FORCE_PTX_JIT", "CUDA_DISABLE_JIT", "CUDA_FORCE_JIT"}) unsetenv(name);
  if (!compile_ptx) setenv("CUDA_DISABLE_PTX_JIT", "1", 1);
  setenv("CUDA_MODULE_LOADING", "EAGER", 1);
  setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
  setenv("CUDA_CACHE_DISABLE", "1", 1);
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* text = dlerror();
    return refuse("The CUDA driver cannot be opened: " + std::string(text ? text : path) + ".");
  }
  const char* missing = nullptr;
#define KL_CUDA_RESOLVE(member, symbol, ...)                                                       \
  driver.member = reinterpret_cast<decltype(driver.member)>(dlsym(library, symbol));               \
  if (driver.member == nullptr && missing == nullptr) missing = symbol;
  KL_CUDA_FUNCTIONS(KL_CUDA_RESOLVE)
#undef KL_CUDA_RESOLVE
  if (missing != nullptr) return refuse("The CUDA driver is too old: it has no " + std::string(missing) + ".");
  if (const Result result = driver.init(0); result != success) {
    return refuse("The CUDA driver does not start: " + driver.describe(result) + ".");
  }
  opened = path;
  compiles = compile_ptx;
  return &driver;
}

std::string Driver::describe(Result result) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (error_name(result, &name) != success || name == nullptr) return "error " + std::to_string(result);
  if (error_text(result, &text) != success || text == nullptr) return name;
  return std::string(name) + " (" + text + ")";
}

}  // namespace kl::cuda
