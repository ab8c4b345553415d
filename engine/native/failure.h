// What went wrong, with the stable code that the TypeScript side turns into an error.
#ifndef KERNLOCK_FAILURE_H
#define KERNLOCK_FAILURE_H
#include <string>
#include <utility>

namespace kl {

struct Failure {
  std::string code;
  std::string text;
};

}  // namespace kl
#endif
