// The driver under the engine host's filter: initialised before it, everything else after. Started through kernlock-start by
// confine.sh; prints what was refused, and ends with 0 when nothing the driver did was.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include <csignal>
#include <dlfcn.h>
#include <ucontext.h>

#include "../../engine/confine/native/filter.h"

namespace {

volatile int refusals[512];
void refused(int, siginfo_t* info, void* context) {
  refusals[info->si_syscall & 511] = refusals[info->si_syscall & 511] + 1;
  static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = -EPERM;
}

void* driver;
template <class F>
F* symbol(const char* name) {
  F* found = reinterpret_cast<F*>(dlsym(driver, name));
  if (found == nullptr) std::fprintf(stderr, "no %s\n", name), std::exit(1);
  return found;
}
// Calls a function of the driver by name; every one used here takes words.
template <class... Words>
void call(const char* name, Words... words) {
  const int status = symbol<int(Words...)>(name)(words...);
  if (status != 0) std::fprintf(stderr, "%s: %d\n", name, status), std::exit(1);
}

constexpr const char* kAdd = R"(.version 8.0
.target sm_80
.address_size 64
.visible .entry add(.param .u64 p, .param .u32 n) {
  .reg .pred %q; .reg .b32 %r<5>; .reg .b64 %d<3>;
  ld.param.u64 %d0, [p]; ld.param.u32 %r0, [n];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
  mad.lo.u32 %r1, %r1, %r2, %r3;
  setp.ge.u32 %q, %r1, %r0; @%q bra done;
  mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %d0, %d1;
  ld.global.u32 %r4, [%d1]; add.u32 %r4, %r4, 1; st.global.u32 [%d1], %r4;
done: ret;
})";

using Handle = void*;
using Address = unsigned long long;

void work(Handle context, Handle function) {
  call("cuCtxSetCurrent", context);
  Handle stream, graph, executable;
  call("cuStreamCreate", &stream, 1u);
  const unsigned n = 1u << 20;
  Address memory;
  void* pinned;
  call("cuMemAlloc_v2", &memory, size_t{2} << 30);
  call("cuMemAllocHost_v2", &pinned, size_t{64} << 20);
  call("cuMemsetD8Async", memory, static_cast<unsigned char>(0), size_t{n} * 4, stream);
  void* params[] = {&memory, const_cast<unsigned*>(&n)};
  call("cuStreamBeginCapture_v2", stream, 2);
  for (int i = 0; i < 50; ++i) {
    call("cuLaunchKernel", function, n / 256, 1u, 1u, 256u, 1u, 1u, 0u, stream, static_cast<void**>(params), static_cast<void**>(nullptr));
  }
  call("cuStreamEndCapture", stream, &graph);
  call("cuGraphInstantiateWithFlags", &executable, graph, 0ull);
  for (int i = 0; i < 20; ++i) call("cuGraphLaunch", executable, stream);
  call("cuMemcpyDtoHAsync_v2", pinned, memory, size_t{n} * 4, stream);
  call("cuStreamSynchronize", stream);
  const auto* values = static_cast<const unsigned*>(pinned);
  if (values[0] != 1000 || values[n - 1] != 1000) std::fprintf(stderr, "wrong result %u\n", values[0]), std::exit(1);
  call("cuMemFree_v2", memory);
}

}  // namespace

int main() {
  driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (driver == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  int device;
  Handle context;
  call("cuInit", 0u);
  call("cuDeviceGet", &device, 0);
  call("cuDevicePrimaryCtxRetain", &context, device);
  call("cuCtxSetCurrent", context);

  struct sigaction action = {};
  action.sa_sigaction = refused;
  action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_RESTART;
  sigaction(SIGSYS, &action, nullptr);
  kl::Filter filter(kl::Strength::kHost, static_cast<uint32_t>(getpid()));
  if (const int error = filter.install(true)) return std::fprintf(stderr, "filter: %d\n", error), 1;

  Handle module, function;
  call("cuModuleLoadData", &module, static_cast<const void*>(kAdd));
  call("cuModuleGetFunction", &function, module, "add");
  work(context, function);
  std::thread(work, context, function).join();

  int total = 0;
  for (int i = 0; i < 512; ++i) {
    if (refusals[i] == 0) continue;
    std::printf("refused: call %d, %d times\n", i, refusals[i]);
    total += refusals[i];
  }
  if (syscall(SYS_socket, 2, 1, 0) != -1 || errno != EPERM) return std::printf("a socket was opened\n"), 1;
  if (open("/etc/shadow", O_RDONLY) >= 0) return std::printf("/etc/shadow was opened\n"), 1;
  std::printf("%d calls of the driver refused\n", total);
  return total == 0 ? 0 : 1;
}
