// A kernel library: a shared object loaded from a descriptor, with one instance open on a device.
#ifndef KERNLOCK_LIBRARY_H
#define KERNLOCK_LIBRARY_H
#include <memory>

#include "device.h"

namespace kl {

class Library {
 public:
  // Null, with the reason in `why`, when the library is refused.
  static std::shared_ptr<Library> open(int fd, Device& device, Failure& why);
  ~Library() { close(); }
  Library(const Library&) = delete;

  const kl_api& api() const { return *api_; }
  kl_status launch(uint32_t index, const void* args, const kl_context& context) const {
    return api_->launch(instance_, index, args, &context);
  }
  // Closes the instance and unloads the library. Waits for a program that runs on the device.
  void close();

 private:
  explicit Library(Device& device) : device_(device) {}
  bool load(int fd, Failure& why);
  bool check(Failure& why);

  Device& device_;
  // Ours alone, and open as long as the library is loaded: the system's loader knows libraries by path, and the path of a
  // descriptor names another file as soon as its number is used again.
  int fd_ = -1;
  void* handle_ = nullptr;
  const kl_api* api_ = nullptr;
  void* memory_ = nullptr;
  kl_instance instance_ = nullptr;
  bool open_ = false;
};

}  // namespace kl
#endif
