#include "pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <mutex>
#include <thread>

namespace kernlock {
namespace {

// More than one, since a cold page keeps the one waiting that sends it.
int ThreadCount() { return std::clamp<int>(static_cast<int>(std::thread::hardware_concurrency()), 2, 4); }

void ThrowSystem(Napi::Env env, const char* call, int error) {
  Napi::Error failure = Napi::Error::New(env, std::string(call) + ": " + std::strerror(error));
  failure.Set("errno", Napi::Number::New(env, error));
  failure.ThrowAsJavaScriptException();
}

}  // namespace

// One a process, never taken down: its threads end with the process.
class Pool {
 public:
  // 0, or an errno.
  int Start() {
    if (queue_ >= 0) return 0;
    const int queue = epoll_create1(EPOLL_CLOEXEC);
    if (queue < 0) return errno;
    // Signals are the main thread's.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int started = 0, error = 0;
    for (int i = 0; i < ThreadCount() && error == 0; i++) {
      pthread_attr_t attributes;
      pthread_attr_init(&attributes);
      pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
      pthread_attr_setstacksize(&attributes, 256 << 10);
      pthread_t thread;
      error = pthread_create(&thread, &attributes, Run, reinterpret_cast<void*>(static_cast<intptr_t>(queue)));
      pthread_attr_destroy(&attributes);
      if (error == 0) started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (started == 0) {
      close(queue);
      return error;
    }
    queue_ = queue;
    return 0;
  }

  int Add(Job* job) { return Control(queue_, EPOLL_CTL_ADD, job); }

 private:
  static int Control(int queue, int operation, Job* job) {
    epoll_event event{};
    // Armed for one thread at a time.
    event.events = job->Events() | EPOLLONESHOT;
    event.data.ptr = job;
    return epoll_ctl(queue, operation, job->socket(), &event) == 0 ? 0 : errno;
  }

  static void* Run(void* argument) {
    pthread_setname_np(pthread_self(), "transfer");
    const int queue = static_cast<int>(reinterpret_cast<intptr_t>(argument));
    for (;;) {
      epoll_event event;
      if (epoll_wait(queue, &event, 1, -1) != 1) continue;
      Job* job = static_cast<Job*>(event.data.ptr);
      if (job->Advance() != Job::Step::kEnd) {
        const int error = Control(queue, EPOLL_CTL_MOD, job);
        if (error == 0) continue;
        if (job->error_ == 0) job->error_ = error;
      }
      // By name, as the socket stays in the queue for as long as its owner's descriptor is open.
      epoll_ctl(queue, EPOLL_CTL_DEL, job->socket(), nullptr);
      job->Tell(true);
    }
    return nullptr;
  }

  std::atomic<int> queue_{-1};
};

namespace {
std::mutex starting;
Pool* const pool = new Pool;
}  // namespace

Job::Job(int socket, int file, off_t offset, uint64_t length)
    : socket_(fcntl(socket, F_DUPFD_CLOEXEC, 0)), file_(file), offset_(offset), left_(length) {
  if (socket_ < 0) error_ = errno;
}

Job::~Job() { Close(); }

void Job::Close() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

void Job::Cancel() {
  cancelled_ = true;
  if (socket_ >= 0) shutdown(socket_, SHUT_RDWR);
}

void Job::Report() {
  if (reported_) return;
  reported_ = true;
  Tell(false);
}

void Job::Tell(bool ended) {
  const bool result = !ended || !reported_;
  reported_ = true;
  // Closing, where JavaScript is being taken down: nobody is there to hear it.
  tell_.BlockingCall(this, [result, ended](Napi::Env env, Napi::Function, Job* job) {
    if (env == nullptr) return;
    const std::shared_ptr<Job> kept = job->self;
    if (ended) {
      job->Close();
      job->self.reset();
    }
    if (!result) return;
    job->done.Call({Napi::Number::New(env, job->error_), Napi::Number::New(env, static_cast<double>(job->moved_))});
  });
}

void StartJob(Napi::Env env, const std::shared_ptr<Job>& job, Napi::ThreadSafeFunction tell) {
  if (job->socket() < 0) return ThrowSystem(env, "fcntl", job->error());
  {
    const std::lock_guard lock(starting);
    if (const int error = pool->Start(); error != 0) return ThrowSystem(env, "epoll", error);
  }
  job->tell_ = tell;
  job->self = job;
  if (const int error = pool->Add(job.get()); error != 0) {
    job->self.reset();
    ThrowSystem(env, "epoll_ctl", error);
  }
}

}  // namespace kernlock
