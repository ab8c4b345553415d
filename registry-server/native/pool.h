// A few threads that wait together for every socket at once: a slow client holds none of them, a slow disk one.
#pragma once

#include <napi.h>

#include "job.h"

namespace kernlock {

// Throws on the thread of JavaScript (errno as its property) when the socket cannot be waited for.
void StartJob(Napi::Env env, const std::shared_ptr<Job>& job, Napi::ThreadSafeFunction tell);

}  // namespace kernlock
