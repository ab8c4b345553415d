// Starts a program with fewer privileges than the caller has, and that it can never get back:
//
//   kernlock-start --probe
//   kernlock-start [--best-effort] --parent PID --descriptors N [-r PATH | -w PATH | -d PATH | -x PATH]... -- PROGRAM [ARG]...
//
// -r may be read, -w read and written, -d is a device (read, written, ioctl), -x read and executed; folders with all below.
// Descriptors 0 to N - 1 are handed on, all others closed. What cannot be applied ends the start with status 125 and a
// sentence on standard error, or with --best-effort is left out. --probe prints what this system can do.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <linux/capability.h>
#include <sys/resource.h>

#include "filter.h"
#include "landlock.h"

namespace {

constexpr int kRefused = 125;
bool best_effort = false;

[[noreturn]] void die(const char* what, int error) {
  std::fprintf(stderr, "kernlock-start: %s: %s\n", what, std::strerror(error));
  std::exit(kRefused);
}
// What must hold in any case.
void must(const char* what, bool done) {
  if (!done) die(what, errno);
}
// What best effort can do without.
void should(const char* what, int error) {
  if (error != 0 && !best_effort) die(what, error);
}

// Seccomp is there if the kernel knows the action that the host's filter answers with.
bool has_seccomp() {
  const uint32_t action = SECCOMP_RET_TRAP;
  return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int drop_capabilities() {
  // Root that runs a program would get its bounding set back; no_new_privs forbids that, and this empties it besides.
  for (int capability = 0; capability < 64; ++capability) prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2] = {};
  return syscall(SYS_capset, &header, none) == 0 ? 0 : errno;
}

// Rules on files of /proc hold for what the kernel has in memory of them. An open descriptor keeps it there.
void pin(const char* path) {
  const int at = open(path, O_PATH);
  if (at < 0) die(path, errno);
}

struct Arguments {
  pid_t parent = 0;
  int descriptors = 3;
  char** rules = nullptr;
  char** command = nullptr;
};

Arguments parse(char** argument) {
  Arguments arguments;
  for (; *argument != nullptr; ++argument) {
    const auto is = [&](const char* name) { return std::strcmp(*argument, name) == 0; };
    if (is("--best-effort")) best_effort = true;
    else if (is("--parent") && argument[1]) arguments.parent = std::atoi(*++argument);
    else if (is("--descriptors") && argument[1]) arguments.descriptors = std::atoi(*++argument);
    else if (is("--")) arguments.command = argument + 1;
    else if (argument[0][0] == '-' && std::strchr("rwdx", argument[0][1]) && argument[1]) {
      if (arguments.rules == nullptr) arguments.rules = argument;
      ++argument;
    } else die(*argument, EINVAL);
    if (arguments.command != nullptr) break;
  }
  if (arguments.command == nullptr || arguments.command[0] == nullptr || arguments.descriptors < 3) die("usage", EINVAL);
  return arguments;
}

void apply_landlock(char** rules) {
  const int version = kl::landlock_version();
  if (version == 0) return should("Landlock is not available", ENOSYS);
  kl::Landlock landlock;
  if (const int error = landlock.open(version)) return should("Landlock cannot be used", error);
  for (; rules != nullptr && std::strcmp(rules[0], "--") != 0; rules += 2) {
    using L = kl::Landlock;
    uint64_t access = L::kRead | L::kList;
    switch (rules[0][1]) {
      case 'w': access |= L::kWrite | L::kTruncate; break;
      case 'd': access |= L::kWrite | L::kIoctl; break;
      case 'x': access |= L::kExecute; break;
    }
    if (const int error = landlock.allow(rules[1], access)) die(rules[1], error);
  }
  should("Landlock cannot be enforced", landlock.enforce());
}

// Names that may come through; the caller hands over little else.
char* environment[16];
void filter_environment(char** all) {
  static const char* const names[] = {"CUDA_CACHE_DISABLE=", "CUDA_VISIBLE_DEVICES=", "TZ=", "UV_USE_IO_URING=",
                                      "NODE_CHANNEL_FD=", "NODE_CHANNEL_SERIALIZATION_MODE="};
  size_t count = 0;
  for (; *all != nullptr; ++all) {
    for (const char* name : names) {
      if (std::strncmp(*all, name, std::strlen(name)) == 0 && count + 1 < 16) environment[count++] = *all;
    }
  }
}

}  // namespace

int main(int, char** argv, char** all) {
  if (argv[1] != nullptr && std::strcmp(argv[1], "--probe") == 0) {
    std::printf("{\"landlock\":%d,\"seccomp\":%s}\n", kl::landlock_version(), has_seccomp() ? "true" : "false");
    return 0;
  }
  const Arguments arguments = parse(argv + 1);
  filter_environment(all);

  // It dies with its caller, who may be gone already.
  must("prctl", prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
  if (getppid() != arguments.parent) die("the caller is gone", ESRCH);
  // No terminal: nothing can be typed into it.
  setsid();
  const rlimit none{0, 0};
  must("setrlimit", setrlimit(RLIMIT_CORE, &none) == 0);
  must("close_range", syscall(436, static_cast<unsigned>(arguments.descriptors), ~0u, 0) == 0);
  must("no_new_privs", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  must("capset", drop_capabilities() == 0);
  pin("/proc/self/task");
  apply_landlock(arguments.rules);
  should("seccomp is not available", kl::Filter(kl::Strength::kStart, 0).install(false));

  execve(arguments.command[0], arguments.command, environment);
  die(arguments.command[0], errno);
}
