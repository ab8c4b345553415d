import { KernlockError } from "@kernlock/kernels/format";

/** Calls that somebody who tries to break out is likely to make; others are named by their number. x86-64. */
const names: Readonly<Record<number, string>> = {
  2: "open",
  41: "socket",
  42: "connect",
  53: "socketpair",
  56: "clone",
  57: "fork",
  58: "vfork",
  59: "execve",
  62: "kill",
  76: "truncate",
  82: "rename",
  83: "mkdir",
  85: "creat",
  86: "link",
  87: "unlink",
  88: "symlink",
  90: "chmod",
  92: "chown",
  101: "ptrace",
  133: "mknod",
  165: "mount",
  200: "tkill",
  234: "tgkill",
  250: "keyctl",
  257: "openat",
  272: "unshare",
  298: "perf_event_open",
  308: "setns",
  310: "process_vm_readv",
  311: "process_vm_writev",
  319: "memfd_create",
  321: "bpf",
  322: "execveat",
  323: "userfaultfd",
  425: "io_uring_setup",
  434: "pidfd_open",
};
export const callName = (number: number): string => names[number] ?? `system call ${number}`;

/** `call`: null when the process was ended before it could say. */
export const violation = (call: number | null): KernlockError =>
  new KernlockError(
    "KL_CONFINE_VIOLATION",
    call === null
      ? "A kernel tried what is refused to the engine host, and the host was ended."
      : `A kernel tried what is refused to the engine host (${callName(call)}), and the host was ended.`,
    {
      remedy: "Do not use the kernels that ran: the plan names them. Nothing of what was tried has happened.",
      details: call === null ? {} : { call: callName(call), number: call },
    },
  );
