#include "pool.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include <immintrin.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kl {
namespace {

constexpr uint64_t kOpen = 1ull << 31;
constexpr uint64_t kInside = kOpen - 1;
// Longer than the gap between two ops of a program, far shorter than what a sleeping core would save.
constexpr auto kSpin = std::chrono::microseconds(50);

thread_local const Pool* inside = nullptr;
thread_local uint32_t inside_worker = 0;

void futex(std::atomic<uint32_t>& word, int op, uint32_t value) {
  static_assert(sizeof(word) == 4);
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), op | FUTEX_PRIVATE_FLAG, value, nullptr, nullptr, 0);
}

}  // namespace

Pool::Pool(uint32_t workers) : workers_(std::max(1u, workers)) {
  // Helpers take no signals: those are Node's business.
  sigset_t all, before;
  sigfillset(&all);
  sigdelset(&all, SIGSYS);  // a refused call; blocked, it would end the process unreported
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (uint32_t worker = 1; worker < workers_; ++worker) helpers_.emplace_back([this, worker] { help(worker); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Pool::stop() {
  stop_.store(true);
  signal_.fetch_add(1);
  futex(signal_, FUTEX_WAKE, INT32_MAX);
  for (auto& helper : helpers_) helper.join();
  helpers_.clear();
}

void Pool::run(uint32_t count, Body body, void* arg) {
  if (count == 0) return;
  if (inside == this) {
    misused_.store(true);
    for (uint32_t i = 0; i < count; ++i) body(arg, i, inside_worker);
    return;
  }
  body_ = body;
  arg_ = arg;
  count_ = count;
  next_.store(0, std::memory_order_relaxed);
  const bool together = !helpers_.empty() && count > 1;
  if (together) {
    const uint32_t loop = signal_.load(std::memory_order_relaxed) + 1;
    gate_.store(uint64_t{loop} << 32 | kOpen, std::memory_order_release);
    signal_.store(loop);  // sequentially consistent with sleepers_: either we see the sleeper or it sees the new number
    if (sleepers_.load() > 0) futex(signal_, FUTEX_WAKE, INT32_MAX);
  }
  share(0);
  if (!together) return;
  gate_.fetch_and(~kOpen, std::memory_order_acq_rel);
  for (uint32_t spins = 0; (gate_.load(std::memory_order_acquire) & kInside) != 0; ++spins) {
    if (spins < 4096) _mm_pause();
    else sched_yield();
  }
}

// Takes ever smaller runs of indices until none is left.
void Pool::share(uint32_t worker) {
  inside = this;
  inside_worker = worker;
  uint32_t begin = next_.load(std::memory_order_relaxed);
  while (begin < count_) {
    const uint32_t take = std::max(1u, (count_ - begin) / (2 * workers_));
    if (!next_.compare_exchange_weak(begin, begin + take, std::memory_order_relaxed)) continue;
    for (uint32_t i = begin; i < begin + take; ++i) body_(arg_, i, worker);
    begin = next_.load(std::memory_order_relaxed);
  }
  inside = nullptr;
}

void Pool::help(uint32_t worker) {
  char name[16];
  std::snprintf(name, sizeof name, "kl-worker-%u", worker);
  pthread_setname_np(pthread_self(), name);
  uint32_t seen = 0;
  for (;;) {
    seen = await(seen);
    if (stop_.load()) return;
    uint64_t gate = gate_.load(std::memory_order_acquire);
    while ((gate & kOpen) != 0) {
      if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) continue;
      share(worker);
      gate_.fetch_sub(1, std::memory_order_release);
      break;
    }
  }
}

// Waits for a loop other than the one seen last; returns its number.
uint32_t Pool::await(uint32_t seen) {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  for (uint32_t spins = 0;; ++spins) {
    const uint32_t now = signal_.load(std::memory_order_acquire);
    if (now != seen) return now;
    _mm_pause();
    if (spins % 64 == 63 && std::chrono::steady_clock::now() > deadline) break;
  }
  sleepers_.fetch_add(1);
  while (signal_.load() == seen) futex(signal_, FUTEX_WAIT, seen);
  sleepers_.fetch_sub(1);
  return signal_.load(std::memory_order_acquire);
}

}  // namespace kl
