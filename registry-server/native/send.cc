// A part of a file to a socket; the bytes never are in this process.
#include <sys/epoll.h>
#include <sys/sendfile.h>

#include <algorithm>
#include <cerrno>

#include "job.h"

namespace kernlock {
namespace {

// One client's turn.
constexpr uint64_t kPiece = 2 << 20;

class Send final : public Job {
 public:
  using Job::Job;

  uint32_t Events() const override { return EPOLLOUT; }

  Step Advance() override {
    for (uint64_t turn = std::min(kPiece, left_); turn > 0;) {
      if (cancelled_) return Fail(ECANCELED);
      const ssize_t sent = sendfile(socket_, file_, &offset_, turn);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) return Step::kWait;
      if (sent < 0) return Fail(errno);
      // The file ends before its size.
      if (sent == 0) return Fail(ENODATA);
      turn -= sent;
      left_ -= sent;
      moved_ += sent;
    }
    return left_ == 0 ? Step::kEnd : Step::kAgain;
  }

 private:
  Step Fail(int error) {
    error_ = error;
    return Step::kEnd;
  }
};

}  // namespace

std::shared_ptr<Job> MakeSend(int socket, int file, off_t offset, uint64_t length) {
  return std::make_shared<Send>(socket, file, offset, length);
}

}  // namespace kernlock
