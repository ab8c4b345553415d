// Sealed memory files: created, filled by the caller, then sealed so that nobody can change them any more.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include <napi.h>

// Newer than the headers of the oldest glibc we build on.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace {

constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

Napi::Value Fail(Napi::Env env, const char* call) {
  const int error = errno;
  Napi::Error failure = Napi::Error::New(env, std::string(call) + ": " + std::strerror(error));
  failure.Set("errno", Napi::Number::New(env, error));
  failure.ThrowAsJavaScriptException();
  return env.Undefined();
}

Napi::Value CreateSealable(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string name = info[0].ToString().Utf8Value();
  // NOEXEC_SEAL (Linux 6.3): never executable as a program; mapping code from it still works.
  int fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return fd < 0 ? Fail(env, "memfd_create") : Napi::Number::New(env, fd);
}

Napi::Value Seal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = info[0].ToNumber().Int32Value();
  if (fcntl(fd, F_ADD_SEALS, kSeals) != 0) return Fail(env, "fcntl(F_ADD_SEALS)");
  return env.Undefined();
}

Napi::Value Seals(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int seals = fcntl(info[0].ToNumber().Int32Value(), F_GET_SEALS);
  return seals < 0 ? Fail(env, "fcntl(F_GET_SEALS)") : Napi::Number::New(env, seals);
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  exports.Set("createSealable", Napi::Function::New(env, CreateSealable));
  exports.Set("seal", Napi::Function::New(env, Seal));
  exports.Set("seals", Napi::Function::New(env, Seals));
  return exports;
}

}  // namespace

NODE_API_MODULE(kernlock_memory, Init)
