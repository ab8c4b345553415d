// What the engine host and the renderer do to themselves once they have all they need.
#include <atomic>
#include <csignal>

#include <napi.h>
#include <ucontext.h>

#include "filter.h"

namespace {

// Where refused calls are reported: whoever holds the other end hears of each, whatever happens here afterwards.
std::atomic<int> alarm_fd{-1};

// Runs in the thread whose call was refused, in its place: the call fails with EPERM.
void refused(int, siginfo_t* info, void* context) {
  constexpr int kFromFilter = 1;  // SYS_SECCOMP
  if (info->si_code != kFromFilter) return;
  const int saved = errno;
  const uint32_t number = static_cast<uint32_t>(info->si_syscall);
  const ssize_t written = write(alarm_fd.load(), &number, sizeof number);
  static_cast<void>(written);
  errno = saved;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

// (strength: "host" | "renderer", alarm descriptor) -> errno, 0 when every thread is confined.
Napi::Value confine(const Napi::CallbackInfo& info) {
  const bool host = info[0].As<Napi::String>().Utf8Value() == "host";
  if (host) {
    alarm_fd = info[1].As<Napi::Number>().Int32Value();
    struct sigaction action = {};
    action.sa_sigaction = refused;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
    if (sigaction(SIGSYS, &action, nullptr) != 0) return Napi::Number::New(info.Env(), errno);
  }
  kl::Filter filter(host ? kl::Strength::kHost : kl::Strength::kRenderer, static_cast<uint32_t>(getpid()));
  return Napi::Number::New(info.Env(), filter.install(true));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("confine", Napi::Function::New(env, confine));
  return exports;
}

}  // namespace

NODE_API_MODULE(kernlock_confine, init)
