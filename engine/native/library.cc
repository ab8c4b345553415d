#include "library.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "ops.h"

namespace kl {
namespace {

constexpr uint32_t args_sizes[] = {
#define KL_ARGS_SIZE(constant, name, type) sizeof(type),
    KL_FOR_EACH_OP(KL_ARGS_SIZE)
#undef KL_ARGS_SIZE
};

std::string path_of(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

struct Range {
  ElfW(Addr) base;
  const char* name;
  uintptr_t begin = UINTPTR_MAX;
  uintptr_t end = 0;
};

int find_range(dl_phdr_info* info, size_t, void* data) {
  Range& range = *static_cast<Range*>(data);
  if (info->dlpi_addr != range.base || std::strcmp(info->dlpi_name, range.name) != 0) return 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    range.begin = std::min<uintptr_t>(range.begin, info->dlpi_addr + header.p_vaddr);
    range.end = std::max<uintptr_t>(range.end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
  }
  return 1;
}

// Whether everything mapped for this library comes from the file behind fd.
bool mapped_from(void* handle, int fd) {
  struct stat file;
  link_map* map = nullptr;
  if (fstat(fd, &file) != 0 || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0) return false;
  Range range{map->l_addr, map->l_name};
  dl_iterate_phdr(find_range, &range);
  FILE* maps = std::fopen("/proc/self/maps", "re");
  if (maps == nullptr) return false;
  char line[512];
  bool some = false;
  bool all = true;
  while (std::fgets(line, sizeof line, maps) != nullptr) {
    unsigned long begin, end, inode;
    unsigned major_number, minor_number;
    if (std::sscanf(line, "%lx-%lx %*s %*x %x:%x %lu", &begin, &end, &major_number, &minor_number, &inode) != 5) continue;
    if (end <= range.begin || begin >= range.end || inode == 0) continue;  // inode 0: zeroed memory past the file's data
    some = true;
    all = all && inode == file.st_ino && makedev(major_number, minor_number) == file.st_dev;
  }
  std::fclose(maps);
  return some && all;
}

// Duplicates a descriptor to a number whose path the loader does not take for another library. -1 with errno on failure.
int duplicate(int fd) {
  int low = 3;
  for (;;) {
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, low);
    if (copy < 0) return -1;
    void* known = dlopen(path_of(copy).c_str(), RTLD_LAZY | RTLD_NOLOAD);
    if (known == nullptr) return copy;
    const bool same = mapped_from(known, copy);
    dlclose(known);
    if (same) return copy;
    ::close(copy);
    low = copy + 1;
  }
}

}  // namespace

std::shared_ptr<Library> Library::open(int fd, Device& device, Failure& why) {
  std::shared_ptr<Library> library(new Library(device));
  return library->load(fd, why) ? library : nullptr;
}

bool Library::load(int fd, Failure& why) {
  const std::unique_lock guard(device_.busy());
  fd_ = duplicate(fd);
  if (fd_ < 0) {
    why = {"KL_LOAD_OPEN", std::string("The descriptor cannot be used: ") + std::strerror(errno) + "."};
    return false;
  }
  handle_ = dlopen(path_of(fd_).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle_ == nullptr) {
    const char* text = dlerror();
    why = {"KL_LOAD_OPEN", std::string("The system's loader refuses the library: ") + (text ? text : "no reason given") + "."};
    return false;
  }
  if (!mapped_from(handle_, fd_)) {
    why = {"KL_LOAD_IDENTITY", "The mapped library is not the file behind the descriptor."};
    return false;
  }
  const auto get = reinterpret_cast<decltype(&kl_get_api)>(dlsym(handle_, "kl_get_api"));
  if (get == nullptr) {
    why = {"KL_LOAD_SYMBOL", "The library does not export kl_get_api."};
    return false;
  }
  api_ = get(KL_ABI);
  if (!check(why)) return false;

  const uint64_t bytes = (api_->instance_bytes + 63) / 64 * 64;
  memory_ = bytes > 1u << 30 ? nullptr : std::aligned_alloc(64, bytes == 0 ? 64 : bytes);
  if (memory_ == nullptr) {
    why = {"KL_LOAD_INSTANCE", "The library wants " + std::to_string(bytes) + " bytes for an instance."};
    return false;
  }
  std::memset(memory_, 0, bytes);
  device_.take_report();
  const kl_status status = api_->open(&device_.host(), &device_.facts(), memory_, &instance_);
  if (status != KL_OK) {
    const std::string text = device_.take_report();
    why = {"KL_LOAD_INSTANCE", "The library does not open on the device: status " + std::to_string(status) +
                                   (text.empty() ? "." : ", " + text)};
    return false;
  }
  open_ = true;
  return true;
}

bool Library::check(Failure& why) {
  const auto refuse = [&why](const std::string& text) {
    why = {"KL_LOAD_ABI", text};
    return false;
  };
  if (api_ == nullptr) return refuse("The library does not speak ABI " + std::to_string(KL_ABI) + ".");
  if (api_->size != sizeof(kl_api) || api_->abi != KL_ABI) {
    return refuse("The library's table has ABI " + std::to_string(api_->abi) + " and " + std::to_string(api_->size) + " bytes.");
  }
  if (!api_->open || !api_->launch || !api_->close || !api_->ops || api_->op_count == 0 || api_->op_count > 1024) {
    return refuse("The library's table is incomplete.");
  }
  for (uint32_t i = 0; i < api_->op_count; ++i) {
    const kl_op& op = api_->ops[i];
    if (op.name == nullptr || op.op >= KL_OP_COUNT) return refuse("Entry " + std::to_string(i) + " of the op table names no op.");
    if (op.args_size != args_sizes[op.op]) {
      return refuse("Op " + std::string(op.name) + " has arguments of " + std::to_string(op.args_size) + " bytes, not " +
                    std::to_string(args_sizes[op.op]) + ".");
    }
  }
  return true;
}

void Library::close() {
  const std::unique_lock guard(device_.busy());
  device_.quiet();
  if (open_) api_->close(instance_);
  open_ = false;
  instance_ = nullptr;
  api_ = nullptr;
  std::free(std::exchange(memory_, nullptr));
  if (handle_ != nullptr) dlclose(std::exchange(handle_, nullptr));
  if (fd_ < 0) return;
  // Still known, because another instance uses it or it cannot be unloaded: then its number must stay taken.
  void* known = dlopen(path_of(fd_).c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (known != nullptr) dlclose(known);
  else ::close(fd_);
  fd_ = -1;
}

}  // namespace kl
