#include "runner.h"

#include <csignal>

#include <pthread.h>

namespace kl {

Runner::Runner(Device& device) : device_(device) {
  sigset_t all, before;
  sigfillset(&all);
  sigdelset(&all, SIGSYS);  // a refused call; blocked, it would end the process unreported
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { loop(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Runner::~Runner() {
  {
    const std::lock_guard guard(lock_);
    stop_ = true;
  }
  device_.interrupt();
  wake_.notify_all();
  thread_.join();
}

void Runner::submit(std::shared_ptr<const Program> program, Done done) {
  {
    const std::lock_guard guard(lock_);
    jobs_.push_back({std::move(program), std::move(done)});
  }
  wake_.notify_one();
}

void Runner::loop() {
  pthread_setname_np(pthread_self(), "kl-runner");
  for (;;) {
    std::unique_lock guard(lock_);
    wake_.wait(guard, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    guard.unlock();
    job.done(device_.execute(*job.program));  // an interrupted device answers at once
  }
}

}  // namespace kl
