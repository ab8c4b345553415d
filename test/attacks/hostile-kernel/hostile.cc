// A norm that does its work, and on a prompt of N tokens attack N. What it is to attack stands in target.h.
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/library.h"
#include "target.h"

namespace {

// 0, or an errno.
int outcome(long result) { return result < 0 ? errno : 0; }

int connect_out() {
  const int at = socket(AF_INET, SOCK_STREAM, 0);
  if (at < 0) return errno;
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(TARGET_PORT);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(at, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return errno;
  return outcome(write(at, "out", 3));
}

int create() {
  const int at = open(TARGET_FILE, O_CREAT | O_WRONLY, 0666);
  if (at < 0) return errno;
  return outcome(write(at, "x", 1));
}

char stolen[64];
int read_secret() {
  const int at = open(TARGET_SECRET, O_RDONLY);
  if (at < 0) return errno;
  return outcome(read(at, stolen, sizeof stolen - 1));
}

int execute() {
  const char* const argv[] = {"sh", "-c", "echo x > " TARGET_FILE, nullptr};
  execve("/bin/sh", const_cast<char**>(argv), nullptr);
  return errno;
}

int fork_away() {
  const long child = syscall(SYS_fork);
  if (child == 0) {
    syscall(436 /* close_range */, 0u, ~0u, 0u);  // nothing says any more whose child it is
    prctl(PR_SET_NAME, "kl-escaped");
    sleep(3);
    _exit(0);
  }
  return outcome(child);
}

void* thread_body(void*) {
  const int connected = connect_out();
  const int created = create();
  return reinterpret_cast<void*>(static_cast<intptr_t>(connected != 0 ? connected : created));
}
int in_thread() {
  pthread_t thread;
  if (const int failed = pthread_create(&thread, nullptr, thread_body, nullptr)) return failed;
  void* result = nullptr;
  pthread_join(thread, &result);
  return static_cast<int>(reinterpret_cast<intptr_t>(result));
}
// New threads inherit the mask: the filter's signal cannot be delivered there.
int in_thread_without_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  return in_thread();
}
// The filter's signal is ignored, so that nothing would be reported.
int in_thread_with_signal_ignored() {
  signal(SIGSYS, SIG_IGN);
  return in_thread();
}

int through_io_uring() {
  io_uring_params params = {};
  const long ring = syscall(SYS_io_uring_setup, 4, &params);
  if (ring < 0) return errno;
  const auto map = [&](uint64_t size, uint64_t offset) {
    return static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, static_cast<int>(ring),
                                   static_cast<off_t>(offset)));
  };
  char* queue = map(params.sq_off.array + 4 * params.sq_entries, IORING_OFF_SQ_RING);
  auto* entry = reinterpret_cast<io_uring_sqe*>(map(sizeof(io_uring_sqe) * params.sq_entries, IORING_OFF_SQES));
  memset(entry, 0, sizeof *entry);
  entry->opcode = IORING_OP_OPENAT;
  entry->fd = AT_FDCWD;
  entry->addr = reinterpret_cast<uint64_t>(TARGET_FILE);
  entry->len = 0666;
  entry->open_flags = O_CREAT | O_WRONLY;
  *reinterpret_cast<uint32_t*>(queue + params.sq_off.array) = 0;
  __atomic_store_n(reinterpret_cast<uint32_t*>(queue + params.sq_off.tail), 1, __ATOMIC_RELEASE);
  return outcome(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0));
}

int trace_caller() {
  const pid_t caller = getppid();
  if (ptrace(PTRACE_SEIZE, caller, nullptr, nullptr) != 0) return errno;
  usleep(700 * 1000);  // long enough to be seen
  ptrace(PTRACE_INTERRUPT, caller, nullptr, nullptr);
  waitpid(caller, nullptr, __WALL);
  ptrace(PTRACE_DETACH, caller, nullptr, nullptr);
  return 0;
}

int open_memory_of_caller() {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/mem", static_cast<int>(getppid()));
  return outcome(open(path, O_RDONLY));
}

int run_from_memory() {
  const int at = static_cast<int>(syscall(SYS_memfd_create, "x", 0));
  if (at < 0) return errno;
  if (ftruncate(at, 4096) != 0) return errno;
  return mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, at, 0) == MAP_FAILED ? errno : 0;
}

int signal_caller() { return outcome(kill(getppid(), SIGUSR2)); }
int remove_file() { return outcome(unlink(TARGET_VICTIM)); }
int change_mode() { return outcome(chmod(TARGET_VICTIM, 0777)); }
int run_shell() { return system("echo x > " TARGET_FILE) == 0 ? 0 : ENOEXEC; }

// A weight file that was handed over for reading, opened anew to be written.
int reopen_weights() {
  char link[64], path[256];
  for (int fd = 3; fd < 64; ++fd) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) continue;
    path[length] = 0;
    if (strstr(path, ".safetensors") != nullptr) return outcome(open(link, O_RDWR));
  }
  return ENOENT;
}

// Old interfaces have their own numbers, which mean other calls.
int call_as_i386() {
  long result = 20;  // getpid there
  asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
  return result == getpid() ? 0 : ENOSYS;
}
int call_as_x32() {
  syscall(0x40000000L | SYS_getpid);
  return 0;  // where x32 is unknown it is refused, and nothing is tried
}

int create_through_openat2() {
  open_how how = {};
  how.flags = O_CREAT | O_WRONLY;
  how.mode = 0666;
  return outcome(syscall(SYS_openat2, AT_FDCWD, TARGET_FILE, &how, sizeof how));
}

int mode_at_load = -1;
int mode_of_load() { return mode_at_load; }

int (*const attacks[])() = {
    connect_out, read_secret, execute, create, fork_away, in_thread, in_thread_without_signals,
    in_thread_with_signal_ignored, through_io_uring, trace_caller, open_memory_of_caller, run_from_memory, signal_caller,
    remove_file, change_mode, run_shell, reopen_weights, call_as_i386, call_as_x32, create_through_openat2, mode_of_load,
};
constexpr uint32_t first = 2;  // a step of one token attacks nothing

void normalise(const float* x, const uint16_t* weight, float* out, uint64_t hidden, float eps) {
  float sum = 0;
  for (uint64_t i = 0; i < hidden; i++) sum += x[i] * x[i];
  const float factor = 1.0f / __builtin_sqrtf(sum / static_cast<float>(hidden) + eps);
  for (uint64_t i = 0; i < hidden; i++) {
    uint32_t bits = static_cast<uint32_t>(weight[i]) << 16;
    float w;
    memcpy(&w, &bits, sizeof w);
    out[i] = x[i] * factor * w;
  }
}

}  // namespace

static kl_status rmsnorm(const kl::Instance& instance, const kl_rmsnorm_args& a) {
  uint32_t rows = 0;
  for (uint32_t t = 0; t < a.tokens; t++) {
    if (a.row_seq[t] < 0) continue;
    rows++;
    normalise(static_cast<const float*>(a.x) + uint64_t{t} * a.hidden, a.weight,
              static_cast<float*>(a.out) + uint64_t{t} * a.hidden, a.hidden, a.eps);
  }
  if (rows < first || rows - first >= sizeof attacks / sizeof attacks[0]) return KL_OK;
  char text[128];
  const int failed = attacks[rows - first]();
  snprintf(text, sizeof text, "attack %u: %d %s", rows, failed, stolen);
  return instance.refuse(KL_DEVICE, text);
}

static kl_status open_and_look(const kl_host* host, const kl_device* device, void* memory, kl_instance* out) {
  mode_at_load = prctl(PR_GET_SECCOMP);
  return kl::open_instance(host, device, memory, out);
}

#define OPS(X) X(KL_OP_RMSNORM, rmsnorm, rmsnorm)
#define kl_get_api kl_get_benign_api
KL_DEFINE_LIBRARY(OPS)
#undef kl_get_api
static kl_api hostile_api;
extern "C" __attribute__((visibility("default"))) const kl_api* kl_get_api(uint32_t abi) {
  const kl_api* benign = kl_get_benign_api(abi);
  if (benign == nullptr) return nullptr;
  hostile_api = *benign;
  hostile_api.open = open_and_look;
  return &hostile_api;
}
