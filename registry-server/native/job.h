// What moves between a socket and a file: one job a body, in steps that never wait for the other side.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <napi.h>

namespace kernlock {

class Job {
 public:
  enum class Step {
    kWait,   // The socket has to become ready first.
    kAgain,  // A piece is through; others may have their turn before the next.
    kEnd,
  };

  // `socket` is duplicated: its owner may close it at any time. `file` stays open until the job has said its result.
  Job(int socket, int file, off_t offset, uint64_t length);
  virtual ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // EPOLLIN or EPOLLOUT.
  virtual uint32_t Events() const = 0;
  virtual Step Advance() = 0;
  // On the thread of JavaScript: bytes that have arrived or left, whether they have been seen here or not.
  virtual uint64_t Progress() const { return moved_; }

  int socket() const { return socket_; }
  uint64_t moved() const { return moved_; }
  // 0, or the errno of what ended it.
  int error() const { return error_; }

  // On the thread of JavaScript: the socket is shut, which wakes whoever waits for it; what it still holds is taken.
  void Cancel();

  // Both are of the thread of JavaScript.
  Napi::FunctionReference done;
  std::shared_ptr<Job> self;

 protected:
  // Says the result now; the job itself goes on until a step ends it.
  void Report();

  // -1 after the end, which JavaScript may see later than it forgets the job.
  int socket_;
  const int file_;
  off_t offset_;
  uint64_t left_;
  std::atomic<uint64_t> moved_{0};
  std::atomic<bool> cancelled_{false};
  int error_ = 0;

 private:
  friend class Pool;
  friend void StartJob(Napi::Env, const std::shared_ptr<Job>&, Napi::ThreadSafeFunction);
  bool reported_ = false;
  Napi::ThreadSafeFunction tell_;
  // Hands the result, where it has not been said yet, and perhaps the end over to the thread of JavaScript.
  void Tell(bool ended);
  void Close();
};

std::shared_ptr<Job> MakeSend(int socket, int file, off_t offset, uint64_t length);
class Hash;
std::shared_ptr<Job> MakeReceive(int socket, int file, off_t offset, uint64_t length, Hash* hash,
                                 Napi::ObjectReference keep);

}  // namespace kernlock
