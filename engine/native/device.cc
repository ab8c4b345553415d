#include "device.h"

#include <cstring>
#include <utility>

namespace kl {

void Device::report(const char* text) {
  const std::lock_guard guard(report_lock_);
  report_.assign(text, strnlen(text, 1000));
}

std::string Device::take_report() {
  const std::lock_guard guard(report_lock_);
  return std::exchange(report_, {});
}

}  // namespace kl
