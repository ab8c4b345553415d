// Landlock without a header of its own: the one that comes with the oldest glibc that this is built on knows half of it.
#pragma once
#include <cerrno>
#include <cstdint>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kl {

// Highest version of the running kernel's Landlock, 0 without one.
inline int landlock_version() {
  constexpr unsigned kVersion = 1;
  const long version = syscall(444, nullptr, 0, kVersion);
  return version < 0 ? 0 : static_cast<int>(version);
}

// An allow list of paths. Everything that the kernel's version can refuse is refused elsewhere: files, TCP, and from version
// 6 on signals and abstract sockets to processes outside.
class Landlock {
 public:
  static constexpr uint64_t kExecute = 1 << 0, kWrite = 1 << 1, kRead = 1 << 2, kList = 1 << 3, kTruncate = 1 << 14,
                            kIoctl = 1 << 15;

  // 0, or an errno.
  int open(int version) {
    const uint64_t all_files[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff};
    Attributes attributes{all_files[version < 5 ? version : 5], version >= 4 ? 3u : 0u, version >= 6 ? 3u : 0u};
    files_ = attributes.files;
    const size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    fd_ = static_cast<int>(syscall(444, &attributes, size, 0));
    return fd_ < 0 ? errno : 0;
  }

  // 0, or an errno. What does not exist needs no rule.
  int allow(const char* path, uint64_t access) {
    const int at = ::open(path, O_PATH | O_CLOEXEC);
    if (at < 0) return errno == ENOENT || errno == ENOTDIR ? 0 : errno;
    struct stat file;
    int failed = fstat(at, &file) != 0 ? errno : 0;
    if (failed == 0) {
      if (!S_ISDIR(file.st_mode)) access &= ~kList;
      const Rule rule{access & files_, at};
      if (syscall(445, fd_, 1, &rule, 0) != 0) failed = errno;
    }
    ::close(at);
    return failed;
  }

  // From here on, for this thread and all that comes of it. 0, or an errno.
  int enforce() { return syscall(446, fd_, 0) == 0 ? 0 : errno; }

 private:
  struct Attributes {
    uint64_t files, network, scopes;
  };
  struct __attribute__((packed)) Rule {
    uint64_t access;
    int32_t parent;
  };
  int fd_ = -1;
  uint64_t files_ = 0;
};

}  // namespace kl
