#include "upload.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <thread>

#include <emmintrin.h>
#include <pthread.h>
#include <unistd.h>

#include "library.h"

namespace kl {
namespace {

// A stretch of a piece that one reader reads.
struct Part {
  const Piece* piece;
  uint32_t job, number;  // the piece's in its job
  uint64_t begin, end;
  char* at;
};

// What readers, the thread that issues and the one that waits for slots say to each other.
struct Progress {
  std::vector<Part> parts;
  std::vector<uint32_t> left;  // of each job, parts that are still to be read
  std::atomic<uint32_t> next{0};
  uint32_t window = 0;  // jobs that have slots at the same time

  std::mutex lock;
  // A job has been read, issued, or has given its slot back.
  std::condition_variable read, issue, release;
  uint32_t issued = 0, freed = 0;  // jobs
  bool stopped = false;
  cuda::Result lost = cuda::success;
  std::optional<UploadFailure> failure;
  double idle = 0;  // of all readers, milliseconds

  // Returns after how many milliseconds.
  template <class Condition>
  double wait(std::unique_lock<std::mutex>& guard, std::condition_variable& change, const Condition& condition) {
    if (stopped || condition()) return 0;
    const auto begin = std::chrono::steady_clock::now();
    change.wait(guard, [&] { return stopped || condition(); });
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  }

  void stop(const std::lock_guard<std::mutex>&) {
    stopped = true;
    for (std::condition_variable* one : {&read, &issue, &release}) one->notify_all();
  }
};

unsigned char largest_of(const unsigned char* bytes, uint64_t length) {
  __m128i most = _mm_setzero_si128();
  uint64_t i = 0;
  for (; i + 16 <= length; i += 16) most = _mm_max_epu8(most, _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + i)));
  unsigned char lanes[16], largest = 0;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(lanes), most);
  for (const unsigned char lane : lanes) largest = std::max(largest, lane);
  for (; i < length; ++i) largest = std::max(largest, bytes[i]);
  return largest;
}

std::optional<UploadFailure> read_part(const Part& part) {
  const auto failed = [&](Failure why, uint64_t index, uint32_t byte) { return UploadFailure{std::move(why), part.job, part.number, index, byte}; };
  for (uint64_t at = part.begin; at < part.end;) {
    const ssize_t count = pread(part.piece->fd, part.at + (at - part.begin), part.end - at, static_cast<off_t>(part.piece->offset + at));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failed({"KL_MODEL_TRUNCATED", count == 0 ? "A weight file became shorter while it was read." : std::strerror(errno)}, at, 0);
    at += static_cast<uint64_t>(count);
  }
  if (part.piece->refuse > 255) return {};
  const auto* bytes = reinterpret_cast<const unsigned char*>(part.at);
  const uint64_t length = part.end - part.begin;
  const unsigned char largest = largest_of(bytes, length);
  if (largest < part.piece->refuse) return {};
  const uint64_t where = static_cast<uint64_t>(std::find(bytes, bytes + length, largest) - bytes);
  return failed({"KL_MODEL_SCALE", "A scale is out of range."}, part.begin + where, largest);
}

// Parts are taken in order, so those of a job that waits for its slot wait for jobs that others read.
void read(Progress& progress) {
  for (;;) {
    const uint32_t i = progress.next.fetch_add(1);
    if (i >= progress.parts.size()) return;
    const Part& part = progress.parts[i];
    {
      std::unique_lock guard(progress.lock);
      progress.idle += progress.wait(guard, progress.release, [&] { return part.job < progress.freed + progress.window; });
      if (progress.stopped) return;
    }
    std::optional<UploadFailure> failure = read_part(part);
    const std::lock_guard guard(progress.lock);
    if (failure) {
      if (!progress.failure) progress.failure = std::move(failure);
      return progress.stop(guard);
    }
    if (--progress.left[part.job] == 0) progress.read.notify_one();
  }
}

// No signals: those are Node's business. SIGSYS is a refused call; blocked, it would end the process unreported.
template <class Work>
std::thread start(Work work) {
  sigset_t all, before;
  sigfillset(&all);
  sigdelset(&all, SIGSYS);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread thread(std::move(work));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return thread;
}

}  // namespace

std::optional<UploadFailure> run_upload(CudaDevice& device, const Upload& upload, UploadTimes& times, const std::function<void(uint64_t)>& done) {
  const std::lock_guard guard(device.busy());
  const cuda::Driver& driver = device.driver();
  device.enter();
  device.take_report();
  cuda::Stream copies = nullptr;
  std::optional<UploadFailure> failure;
  const auto good = [&](cuda::Result result, const char* call, uint32_t job) {
    if (device.check(result, call) == KL_OK) return true;
    failure = UploadFailure{{"KL_DEVICE_FAULT", device.take_report()}, job};
    return false;
  };
  struct Slot {
    cuda::Event uploaded = nullptr, free = nullptr;
  };
  std::vector<Slot> slots(upload.slots.size());
  bool ok = good(driver.stream_create(&copies, cuda::stream_non_blocking), "cuStreamCreate", 0);
  for (Slot& slot : slots) {
    ok = ok && good(driver.event_create(&slot.uploaded, cuda::event_disable_timing), "cuEventCreate", 0) &&
         good(driver.event_create(&slot.free, cuda::event_disable_timing), "cuEventCreate", 0);
  }

  const uint32_t jobs = static_cast<uint32_t>(upload.jobs.size());
  Progress progress;
  progress.window = upload.overlap ? static_cast<uint32_t>(slots.size()) : 1;
  progress.left.resize(jobs);
  for (uint32_t j = 0; j < jobs; ++j) {
    char* at = upload.slots[j % slots.size()];
    for (uint32_t p = 0; p < upload.jobs[j].pieces.size(); ++p) {
      const Piece& piece = upload.jobs[j].pieces[p];
      for (uint64_t begin = 0; begin < piece.bytes; begin += upload.part_bytes) {
        progress.parts.push_back({&piece, j, p, begin, std::min(piece.bytes, begin + upload.part_bytes), at + begin});
        ++progress.left[j];
      }
      at += (piece.bytes + 63) / 64 * 64;
    }
  }
  std::vector<std::thread> threads;
  if (ok) {
    for (uint32_t i = 0; i < std::max(1u, upload.readers); ++i) threads.push_back(start([&] { read(progress); }));
    // Slots are waited for beside the issuing of what comes after them.
    threads.push_back(start([&] {
      device.enter();
      for (uint32_t j = 0; j < jobs; ++j) {
        {
          std::unique_lock guard(progress.lock);
          progress.wait(guard, progress.issue, [&] { return progress.issued > j; });
          if (progress.stopped) return;
        }
        const cuda::Result result = driver.event_wait(slots[j % slots.size()].free);
        const std::lock_guard guard(progress.lock);
        progress.lost = result;
        if (result != cuda::success) return progress.stop(guard);
        progress.freed = j + 1;
        progress.release.notify_all();
      }
    }));
  }
  uint64_t bytes = 0;
  for (uint32_t j = 0; ok && j < jobs; ++j) {
    const Job& job = upload.jobs[j];
    Slot& slot = slots[j % slots.size()];
    {
      std::unique_lock guard(progress.lock);
      times.files += progress.wait(guard, progress.read, [&] { return progress.left[j] == 0; });
      if (progress.stopped) break;
    }
    const char* at = upload.slots[j % slots.size()];
    for (uint32_t p = 0; ok && p < job.pieces.size(); ++p) {
      const Piece& piece = job.pieces[p];
      ok = good(driver.copy_up(reinterpret_cast<cuda::Pointer>(piece.to), at, piece.bytes, copies), "cuMemcpyHtoDAsync", j);
      at += (piece.bytes + 63) / 64 * 64;
      bytes += piece.bytes;
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
    if (!ok) break;
    {
      const std::lock_guard guard(progress.lock);
      progress.issued = j + 1;
      progress.issue.notify_one();
    }
    done(bytes);
  }
  {
    const std::lock_guard guard(progress.lock);
    if (!ok) progress.stop(guard);
  }
  for (std::thread& thread : threads) thread.join();
  times.device = progress.idle / std::max(1u, upload.readers);
  if (!failure) failure = std::move(progress.failure);
  if (!failure) good(progress.lost, "cuEventSynchronize", 0);
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
