// Bytes between sockets and files, past JavaScript. `transfers.ts` is its border.
#include <memory>
#include <utility>

#include <napi.h>

#include "hash.h"
#include "job.h"
#include "pool.h"

namespace kernlock {
namespace {

struct PerEnvironment {
  Napi::ThreadSafeFunction tell;
};

Napi::Value Begin(Napi::Env env, std::shared_ptr<Job> job, Napi::Value done) {
  job->done = Napi::Persistent(done.As<Napi::Function>());
  StartJob(env, job, env.GetInstanceData<PerEnvironment>()->tell);
  if (env.IsExceptionPending()) return env.Undefined();
  using Held = std::shared_ptr<Job>;
  return Napi::External<Held>::New(env, new Held(std::move(job)), [](Napi::Env, Held* held) { delete held; });
}

const std::shared_ptr<Job>& JobOf(const Napi::CallbackInfo& info) {
  return *info[0].As<Napi::External<std::shared_ptr<Job>>>().Data();
}

// (socket, file, offset, length, done(errno, moved)) -> job
Napi::Value StartSend(const Napi::CallbackInfo& info) {
  return Begin(info.Env(),
               MakeSend(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int32Value(),
                        info[2].ToNumber().Int64Value(), info[3].ToNumber().Int64Value()),
               info[4]);
}

// (socket, file, offset, length, hash, done(errno, moved)) -> job
Napi::Value StartReceive(const Napi::CallbackInfo& info) {
  const Napi::Object hash = info[4].As<Napi::Object>();
  return Begin(info.Env(),
               MakeReceive(info[0].ToNumber().Int32Value(), info[1].ToNumber().Int32Value(),
                           info[2].ToNumber().Int64Value(), info[3].ToNumber().Int64Value(), Hash::Unwrap(hash),
                           Napi::Persistent(hash)),
               info[5]);
}

Napi::Value Progress(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(JobOf(info)->Progress()));
}

Napi::Value Cancel(const Napi::CallbackInfo& info) {
  JobOf(info)->Cancel();
  return info.Env().Undefined();
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  const auto nothing = Napi::Function::New(env, [](const Napi::CallbackInfo&) {});
  auto own = std::make_unique<PerEnvironment>();
  own->tell = Napi::ThreadSafeFunction::New(env, nothing, "kernlock transfers", 0, 1);
  // What waits for a job holds a socket, and that keeps the process.
  own->tell.Unref(env);
  env.SetInstanceData(own.release());
  exports.Set("Sha256", Hash::Class(env));
  exports.Set("send", Napi::Function::New(env, StartSend));
  exports.Set("receive", Napi::Function::New(env, StartReceive));
  exports.Set("progress", Napi::Function::New(env, Progress));
  exports.Set("cancel", Napi::Function::New(env, Cancel));
  return exports;
}

}  // namespace
}  // namespace kernlock

Napi::Object Init(Napi::Env env, Napi::Object exports) { return kernlock::Init(env, exports); }
NODE_API_MODULE(kernlock_transfers, Init)
