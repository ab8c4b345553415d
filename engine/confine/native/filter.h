// Seccomp filters, in three strengths. Each is a list of what is refused; numbers that this list has never seen are refused
// as unknown, so a newer kernel adds nothing. Arguments behind pointers cannot be read by a filter: openat2 and clone3 do not
// exist here, and C libraries fall back to the calls whose flags stand in a register.
#pragma once
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace kl {

enum class Strength {
  // From before exec on: what neither Node nor a driver needs at any time, above all what would outlive later filters.
  kStart,
  // The engine host, from before the first kernel on. Refusals raise SIGSYS, whose handler reports them.
  kHost,
  // The renderer of chat templates: as kHost, and no file is opened at all.
  kRenderer,
};

namespace detail {

// Newer than the headers of the oldest glibc that this is built on.
enum : uint32_t {
  kIoUringSetup = 425, kIoUringEnter = 426, kIoUringRegister = 427,
  kOpenTree = 428, kMoveMount = 429, kFsopen = 430, kFsconfig = 431, kFsmount = 432, kFspick = 433,
  kPidfdOpen = 434, kClone3 = 435, kOpenat2 = 437, kPidfdGetfd = 438, kProcessMadvise = 440, kMountSetattr = 442,
  kQuotactlFd = 443, kMemfdSecret = 447, kProcessMrelease = 448, kFchmodat2 = 452, kStatmount = 457, kListmount = 458,
  kLastKnown = 462,  // mseal
};

constexpr uint32_t kAlways[] = {
    // Other processes.
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, kPidfdOpen, kPidfdGetfd, SYS_pidfd_send_signal,
    kProcessMadvise, kProcessMrelease,
    // Interfaces that do other calls' work, or open the kernel itself.
    kIoUringSetup, kIoUringEnter, kIoUringRegister, SYS_bpf, SYS_userfaultfd, SYS_perf_event_open, SYS_keyctl, SYS_add_key,
    SYS_request_key, SYS_fanotify_init, SYS_fanotify_mark, SYS_open_by_handle_at, SYS_modify_ldt,
    SYS_personality, SYS_uselib, SYS_lookup_dcookie, SYS_vhangup, SYS_nfsservctl, SYS_remap_file_pages,
    // The system.
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, kOpenTree, kMoveMount, kFsopen, kFsconfig, kFsmount, kFspick,
    kMountSetattr, kStatmount, kListmount, SYS_setns, SYS_unshare, SYS_init_module, SYS_finit_module, SYS_delete_module,
    SYS_kexec_load, SYS_kexec_file_load, SYS_reboot, SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime,
    SYS_sethostname, SYS_setdomainname, SYS_iopl, SYS_ioperm, SYS_syslog, SYS_swapon, SYS_swapoff, SYS_quotactl, kQuotactlFd,
    SYS_acct,
};

constexpr uint32_t kAfterStart[] = {
    SYS_execve, SYS_execveat, SYS_fork, SYS_vfork,
    // Sockets. What is open stays open, but passes no descriptors.
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4, SYS_sendto, SYS_sendmsg,
    SYS_sendmmsg, SYS_recvfrom, SYS_recvmmsg, SYS_setsockopt,
    // Files.
    SYS_creat, SYS_mknod, SYS_mknodat, SYS_mkdir, SYS_mkdirat, SYS_rmdir, SYS_unlink, SYS_unlinkat, SYS_rename, SYS_renameat,
    SYS_renameat2, SYS_link, SYS_linkat, SYS_symlink, SYS_symlinkat, SYS_chmod, SYS_fchmod, SYS_fchmodat, kFchmodat2, SYS_chown,
    SYS_fchown, SYS_lchown, SYS_fchownat, SYS_truncate, SYS_utime, SYS_utimes, SYS_futimesat, SYS_utimensat, SYS_setxattr,
    SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_memfd_create, kMemfdSecret,
    SYS_io_setup, SYS_io_submit,
    // Other processes: memory and messages that any process of the user shares, and signals without an address to check.
    SYS_shmget, SYS_shmat, SYS_shmctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl, SYS_semget, SYS_semop, SYS_semtimedop,
    SYS_semctl, SYS_mq_open, SYS_mq_unlink, SYS_tkill,
    // Privileges, and this filter.
    SYS_setuid, SYS_setgid, SYS_setreuid, SYS_setregid, SYS_setresuid, SYS_setresgid, SYS_setgroups, SYS_setfsuid, SYS_setfsgid,
    SYS_capset, SYS_seccomp,
};

// Calls whose first argument is a process, which must be the caller's own; 0 stands for that in the second list, and for
// a group of processes in the first.
constexpr uint32_t kToSelf[] = {SYS_kill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo};
constexpr uint32_t kOfSelf[] = {SYS_prlimit64, SYS_move_pages, SYS_migrate_pages};

constexpr uint32_t kWriteFlags = O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY);
// Typing into a terminal, taking it over, and signals to whom a descriptor's events are sent.
constexpr uint32_t kForbiddenIoctls[] = {TIOCSTI, TIOCCONS, TIOCSETD, 0x541c /* TIOCLINUX */, 0x8901 /* FIOSETOWN */,
                                         0x8902 /* SIOCSPGRP */};
constexpr uint32_t kForbiddenFcntls[] = {F_SETOWN, F_SETSIG, F_SETOWN_EX};
// The first ties this process's life to the caller's.
constexpr uint32_t kForbiddenPrctls[] = {PR_SET_PDEATHSIG, PR_SET_SECCOMP};

}  // namespace detail

// A filter, built in place: nothing here allocates, so that the starter needs no C++ runtime.
class Filter {
 public:
  Filter(Strength strength, uint32_t self) {
    using namespace detail;
    refusal_ = strength == Strength::kHost ? SECCOMP_RET_TRAP : SECCOMP_RET_ERRNO | EPERM;
    load(offsetof(seccomp_data, arch));
    unless_equal(AUDIT_ARCH_X86_64, SECCOMP_RET_KILL_PROCESS);
    load(offsetof(seccomp_data, nr));
    if_at_least(0x40000000, SECCOMP_RET_KILL_PROCESS);  // x32
    for (const uint32_t number : kAlways) if_equal(number, refusal_);
    if (strength == Strength::kStart) {
      add(SECCOMP_RET_ALLOW);
      return;
    }

    if_at_least(kLastKnown + 1, kUnknown);
    if_equal(kClone3, kUnknown);
    if_equal(kOpenat2, kUnknown);
    for (const uint32_t number : kAfterStart) if_equal(number, refusal_);
    if (strength == Strength::kRenderer) {
      if_equal(SYS_open, refusal_);
      if_equal(SYS_openat, refusal_);
    } else {
      // Node reads messages that may carry descriptors from the renderer's channel only.
      if_equal(SYS_recvmsg, refusal_);
      argument(SYS_open, 1, 3, [&] { if_set(kWriteFlags, refusal_); });
      argument(SYS_openat, 2, 3, [&] { if_set(kWriteFlags, refusal_); });
    }
    argument(SYS_clone, 0, 3, [&] { unless_set(CLONE_THREAD, refusal_); });
    for (const uint32_t number : kToSelf) argument(number, 0, 3, [&] { unless_equal(self, refusal_); });
    for (const uint32_t number : kOfSelf) {
      argument(number, 0, 5, [&] {
        if_equal(0, SECCOMP_RET_ALLOW);
        unless_equal(self, refusal_);
      });
    }
    among(SYS_ioctl, 1, kForbiddenIoctls);
    among(SYS_fcntl, 1, kForbiddenFcntls);
    among(SYS_prctl, 0, kForbiddenPrctls);
    add(SECCOMP_RET_ALLOW);
  }

  // 0, or an errno. With `everywhere`, for all threads of the process, or for none.
  int install(bool everywhere) {
    sock_fprog program{length_, code_};
    const long done = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, everywhere ? SECCOMP_FILTER_FLAG_TSYNC : 0, &program);
    return done == 0 ? 0 : done > 0 ? EAGAIN : errno;
  }

 private:
  static constexpr uint32_t kUnknown = SECCOMP_RET_ERRNO | ENOSYS;

  void put(sock_filter instruction) { code_[length_++] = instruction; }
  void load(uint32_t offset) { put(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
  void add(uint32_t action) { put(BPF_STMT(BPF_RET | BPF_K, action)); }
  void test(uint16_t how, uint32_t value, bool wanted, uint32_t action) {
    const uint8_t yes = wanted ? 0 : 1, no = wanted ? 1 : 0;
    put(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | how | BPF_K), value, yes, no));
    add(action);
  }
  void if_equal(uint32_t value, uint32_t action) { test(BPF_JEQ, value, true, action); }
  void unless_equal(uint32_t value, uint32_t action) { test(BPF_JEQ, value, false, action); }
  void if_at_least(uint32_t value, uint32_t action) { test(BPF_JGE, value, true, action); }
  void if_set(uint32_t bits, uint32_t action) { test(BPF_JSET, bits, true, action); }
  void unless_set(uint32_t bits, uint32_t action) { test(BPF_JSET, bits, false, action); }

  // For one call: looks at the lower half of an argument (the kernel takes all of these as 32 bits), then allows.
  // `length`: instructions of the body plus the final one.
  template <class Body>
  void argument(uint32_t number, uint32_t index, uint8_t length, const Body& body) {
    put(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, static_cast<uint8_t>(length + 1)));
    load(static_cast<uint32_t>(offsetof(seccomp_data, args) + index * sizeof(uint64_t)));
    body();
    add(SECCOMP_RET_ALLOW);
  }
  template <size_t N>
  void among(uint32_t number, uint32_t index, const uint32_t (&values)[N]) {
    argument(number, index, 2 * N + 1, [&] {
      for (const uint32_t value : values) if_equal(value, refusal_);
    });
  }

  uint32_t refusal_ = 0;
  uint16_t length_ = 0;
  sock_filter code_[512];
};

}  // namespace kl
