// The rest of a body from a socket into a file, hashed on the way while it is in the processor's cache.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "hash.h"
#include "job.h"

namespace kernlock {
namespace {

// Fits a core's own cache, beside what hashing needs.
constexpr uint64_t kPiece = 512 << 10;
// One client's turn.
constexpr uint64_t kTurn = 2 << 20;
// The disk begins with what has come while more is coming, so that the sync at the end has little to wait for.
constexpr off_t kBegin = 8 << 20;

class Receive final : public Job {
 public:
  Receive(int socket, int file, off_t offset, uint64_t length, Hash* hash, Napi::ObjectReference keep)
      : Job(socket, file, offset, length), hash_(hash), keep_(std::move(keep)), begun_(offset) {
    WakeAt(std::min(left_, kPiece));
  }

  uint32_t Events() const override { return EPOLLIN; }

  uint64_t Progress() const override {
    int waiting = 0;
    if (ioctl(socket_, FIONREAD, &waiting) != 0) waiting = 0;
    return moved_ + static_cast<uint64_t>(waiting);
  }

  Step Advance() override {
    thread_local const std::unique_ptr<char[]> buffer(new char[kPiece]);
    for (uint64_t turn = std::min(kTurn, left_); turn > 0;) {
      const ssize_t came = recv(socket_, buffer.get(), std::min(turn, kPiece), MSG_DONTWAIT);
      if (came < 0 && errno == EINTR) continue;
      // What the socket held when this was cancelled has been taken.
      if (came < 0 && errno == EAGAIN && !cancelled_) return Step::kWait;
      if (came <= 0) return End(came < 0 ? ECONNRESET : 0);
      turn -= came;
      left_ -= came;
      if (failed_) continue;
      if (const int error = Keep(buffer.get(), came); error != 0) {
        // Said at once. What is still coming is read and dropped, as a connection that is closed over it is reset,
        // and the answer lost with it.
        failed_ = true;
        error_ = error;
        WakeAt(1);
        Report();
        continue;
      }
      if (left_ > 0 && left_ < kPiece) WakeAt(left_);
    }
    return left_ == 0 ? End(0) : Step::kAgain;
  }

 private:
  Step End(int error) {
    if (!failed_) error_ = error;
    WakeAt(1);
    return Step::kEnd;
  }

  // Ready only when a whole piece can be read: fewer turns for the same bytes. Its end wakes whatever it holds.
  void WakeAt(uint64_t bytes) {
    const int mark = static_cast<int>(bytes);
    setsockopt(socket_, SOL_SOCKET, SO_RCVLOWAT, &mark, sizeof mark);
  }

  // File, hash and `moved` go together, so that the upload can go on from there.
  int Keep(const char* bytes, size_t length) {
    for (size_t done = 0; done < length;) {
      const ssize_t wrote = pwrite(file_, bytes + done, length - done, offset_ + static_cast<off_t>(done));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return errno;
      if (wrote == 0) return EIO;
      done += wrote;
    }
    if (!hash_->Update(bytes, length)) return EIO;
    offset_ += static_cast<off_t>(length);
    moved_ += length;
    if (offset_ - begun_ >= kBegin) {
      // Where it cannot, the sync at the end does all of it.
      sync_file_range(file_, begun_, offset_ - begun_, SYNC_FILE_RANGE_WRITE);
      begun_ = offset_;
    }
    return 0;
  }

  Hash* const hash_;
  const Napi::ObjectReference keep_;
  off_t begun_;
  bool failed_ = false;
};

}  // namespace

std::shared_ptr<Job> MakeReceive(int socket, int file, off_t offset, uint64_t length, Hash* hash,
                                 Napi::ObjectReference keep) {
  return std::make_shared<Receive>(socket, file, offset, length, hash, std::move(keep));
}

}  // namespace kernlock
