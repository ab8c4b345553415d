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
  waiter_ = std::thread([this] { wait_loop(); });
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
  {
    const std::lock_guard guard(lock_);
    stop_waiting_ = true;
  }
  begun_.notify_all();
  waiter_.join();
}

void Runner::submit(std::shared_ptr<const Program> program, Done done) {
  {
    const std::lock_guard guard(lock_);
    jobs_.push_back({std::move(program), std::move(done)});
  }
  wake_.notify_one();
}

void Runner::working(int change) {
  const auto now = std::chrono::steady_clock::now();
  if (at_work_ > 0) busy_ += static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now - since_).count());
  since_ = now;
  at_work_ += change;
}

void Runner::loop() {
  pthread_setname_np(pthread_self(), "kl-runner");
  std::unique_lock guard(lock_);
  for (;;) {
    wake_.wait(guard, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    working(1);
    guard.unlock();
    if (device_.begin(*job.program)) {
      guard.lock();
      started_.push_back(std::move(job));
      begun_.notify_one();
      continue;
    }
    // Not before all that was begun has been told: results come in order.
    guard.lock();
    idle_.wait(guard, [this] { return started_.empty(); });
    guard.unlock();
    auto failure = device_.execute(*job.program);  // an interrupted device answers at once
    guard.lock();
    working(-1);
    guard.unlock();
    job.done(std::move(failure));
    guard.lock();
  }
}

void Runner::wait_loop() {
  pthread_setname_np(pthread_self(), "kl-waiter");
  std::unique_lock guard(lock_);
  for (;;) {
    begun_.wait(guard, [this] { return stop_waiting_ || !started_.empty(); });
    if (started_.empty()) return;
    guard.unlock();
    auto failure = device_.finish();
    guard.lock();
    working(-1);
    const Job job = std::move(started_.front());
    guard.unlock();
    job.done(std::move(failure));
    guard.lock();
    started_.pop_front();
    if (started_.empty()) idle_.notify_one();
  }
}

}  // namespace kl
