#include "upload.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <unistd.h>

#include "library.h"
#include "pool.h"

namespace kl {
namespace {

constexpr uint64_t part_bytes = 4u << 20;

// A stretch of a piece that one reader reads.
struct Part {
  const Piece* piece;
  uint32_t number;  // of the piece
  uint64_t begin, end;
  char* at;
};

struct Reading {
  std::vector<Part> parts;
  std::mutex lock;
  std::optional<UploadFailure> failure;
};

void read_part(Reading& reading, const Part& part) {
  const auto fail = [&](Failure why, uint64_t index, uint32_t byte) {
    const std::lock_guard guard(reading.lock);
    if (!reading.failure) reading.failure = UploadFailure{std::move(why), 0, part.number, index, byte};
  };
  for (uint64_t at = part.begin; at < part.end;) {
    const ssize_t count = pread(part.piece->fd, part.at + (at - part.begin), part.end - at, static_cast<off_t>(part.piece->offset + at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail({"KL_MODEL_TRUNCATED", count == 0 ? "A weight file became shorter while it was read." : std::strerror(errno)}, at, 0);
    at += static_cast<uint64_t>(count);
  }
  if (part.piece->refuse > 255) return;
  const auto* bytes = reinterpret_cast<const unsigned char*>(part.at);
  const uint64_t length = part.end - part.begin;
  unsigned char largest = 0;
  for (uint64_t i = 0; i < length; ++i) largest = std::max(largest, bytes[i]);
  if (largest < part.piece->refuse) return;
  const uint64_t where = static_cast<uint64_t>(std::find(bytes, bytes + length, largest) - bytes);
  fail({"KL_MODEL_SCALE", "A scale is out of range."}, part.begin + where, largest);
}

}  // namespace

std::optional<UploadFailure> run_upload(CudaDevice& device, const Upload& upload, const std::function<void(uint64_t)>& done) {
  const std::lock_guard guard(device.busy());
  const cuda::Driver& driver = device.driver();
  device.enter();
  device.take_report();
  Pool readers(upload.readers);
  cuda::Stream copies = nullptr;
  std::optional<UploadFailure> failure;
  const auto good = [&](cuda::Result result, const char* call, uint32_t job) {
    if (device.check(result, call) == KL_OK) return true;
    failure = UploadFailure{{"KL_DEVICE_FAULT", device.take_report()}, job};
    return false;
  };
  struct Slot {
    cuda::Event uploaded = nullptr, free = nullptr;
    bool used = false;
  };
  std::vector<Slot> slots(upload.slots.size());
  bool ok = good(driver.stream_create(&copies, cuda::stream_non_blocking), "cuStreamCreate", 0);
  for (Slot& slot : slots) {
    ok = ok && good(driver.event_create(&slot.uploaded, cuda::event_disable_timing), "cuEventCreate", 0) &&
         good(driver.event_create(&slot.free, cuda::event_disable_timing), "cuEventCreate", 0);
  }
  uint64_t read = 0;
  for (uint32_t j = 0; ok && j < upload.jobs.size(); ++j) {
    const Job& job = upload.jobs[j];
    Slot& slot = slots[j % slots.size()];
    if (slot.used && !good(driver.event_wait(slot.free), "cuEventSynchronize", j)) break;

    Reading reading;
    char* at = upload.slots[j % slots.size()];
    std::vector<const char*> places;
    for (uint32_t p = 0; p < job.pieces.size(); ++p) {
      const Piece& piece = job.pieces[p];
      places.push_back(at);
      for (uint64_t begin = 0; begin < piece.bytes; begin += part_bytes) {
        reading.parts.push_back({&piece, p, begin, std::min(piece.bytes, begin + part_bytes), at + begin});
      }
      at += (piece.bytes + 63) / 64 * 64;
      read += piece.bytes;
    }
    readers.run(static_cast<uint32_t>(reading.parts.size()), [](void* arg, uint32_t i, uint32_t) {
      Reading& reading = *static_cast<Reading*>(arg);
      read_part(reading, reading.parts[i]);
    }, &reading);
    if (reading.failure) {
      failure = std::move(reading.failure);
      failure->job = j;
      break;
    }
    for (uint32_t p = 0; ok && p < job.pieces.size(); ++p) {
      const Piece& piece = job.pieces[p];
      ok = good(driver.copy_up(reinterpret_cast<cuda::Pointer>(piece.to), places[p], piece.bytes, copies), "cuMemcpyHtoDAsync", j);
    }
    ok = ok && good(driver.event_record(slot.uploaded, copies), "cuEventRecord", j) &&
         good(driver.stream_after(device.stream(), slot.uploaded, 0), "cuStreamWaitEvent", j);
    for (uint32_t i = 0; ok && i < job.launches.size(); ++i) {
      const kl_status status = device.issue(job.launches[i]);
      if (status == KL_OK) continue;
      failure = UploadFailure{{"KL_OP_FAILED", {}}, j};
      failure->op = {i, status, device.take_report()};
      ok = false;
    }
    ok = ok && good(driver.event_record(slot.free, device.stream()), "cuEventRecord", j);
    slot.used = true;
    if (ok && !upload.overlap) ok = good(driver.event_wait(slot.free), "cuEventSynchronize", j);
    if (ok) done(read);
  }
  if (copies != nullptr) {
    // Also after a failure: nobody may free what is being copied.
    const cuda::Result copied = driver.stream_wait(copies), prepared = driver.stream_wait(device.stream());
    if (!failure) good(copied, "copying weights", 0) && good(prepared, "preparing weights", 0);
  }
  for (Slot& slot : slots) {
    if (slot.uploaded != nullptr) driver.event_destroy(slot.uploaded);
    if (slot.free != nullptr) driver.event_destroy(slot.free);
  }
  return failure;
}

}  // namespace kl
