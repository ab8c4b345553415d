// Weights from files to a GPU: read by several threads into pinned memory, copied, prepared by ops, all three overlapped.
#ifndef KERNLOCK_UPLOAD_H
#define KERNLOCK_UPLOAD_H
#include <functional>

#include "cuda.h"

namespace kl {

// Bytes of a file and where they go: their place, or a slot's device staging, from where the job's launches take them.
struct Piece {
  int fd;
  uint64_t offset;
  uint64_t bytes;
  void* to;
  uint32_t refuse;  // a byte of at least this value is refused; 256: none
};

// What fits into one slot of pinned memory.
struct Job {
  std::vector<Piece> pieces;
  std::vector<Step> launches;
};

struct Upload {
  std::vector<Job> jobs;
  std::vector<char*> slots;  // pinned; job i uses slot i % slots.size()
  uint64_t part_bytes;       // of a piece, that one reader reads at a time
  uint32_t readers;
  bool overlap;  // false: one job after another, for comparison
};

struct UploadFailure {
  Failure why;
  uint32_t job = 0;
  uint32_t piece = 0;
  uint64_t index = 0;  // of the byte in its piece
  uint32_t byte = 0;
  OpFailure op{OpFailure::unknown, KL_OK, {}};
};

// What bounds an upload, in milliseconds: how long copies waited for bytes of the files, and how long the average reader
// waited for a slot, that is for the device.
struct UploadTimes {
  double files = 0, device = 0;
};

// Runs on the calling thread. `done` is called with the bytes that are on their way so far.
std::optional<UploadFailure> run_upload(CudaDevice& device, const Upload& upload, UploadTimes& times, const std::function<void(uint64_t)>& done);

}  // namespace kl
#endif
