/** The attacks of hostile.cc, in its order; how each is seen from outside. */
export type Sign =
  /** A connection reaches the listener. */
  | "connection"
  /** The file appears. */
  | "file"
  /** A process of that name lives. */
  | "process"
  /** The caller has a tracer. */
  | "tracer"
  /** The caller gets the signal. */
  | "signal"
  /** The victim is gone, or has another mode. */
  | "victim"
  /** Only the kernel itself can tell: its call succeeded. */
  | "answer";

export interface Attack {
  readonly what: string;
  readonly signs: readonly Sign[];
  /** How it ends confined: the call that the parent hears of, null where the process is ended without; or an errno. */
  readonly ends: { readonly call: string | null } | { readonly errno: number };
}

const EACCES = 13;
const ENOSYS = 38;

export const attacks: readonly Attack[] = [
  { what: "connects to a socket", signs: ["connection"], ends: { call: "socket" } },
  { what: "reads a secret file", signs: ["answer"], ends: { errno: EACCES } },
  { what: "executes a program in its place", signs: ["file"], ends: { call: "execve" } },
  { what: "writes a file", signs: ["file"], ends: { call: "openat" } },
  { what: "forks", signs: ["process"], ends: { call: "fork" } },
  { what: "starts a thread that connects and writes", signs: ["connection", "file"], ends: { call: "socket" } },
  { what: "starts a thread that takes no signals", signs: ["connection", "file"], ends: { call: null } },
  { what: "ignores the filter's signal", signs: ["connection", "file"], ends: { call: null } },
  { what: "creates a file through io_uring", signs: ["file"], ends: { call: "io_uring_setup" } },
  { what: "traces its parent", signs: ["tracer"], ends: { call: "ptrace" } },
  { what: "opens its parent's memory", signs: ["answer"], ends: { errno: EACCES } },
  { what: "makes a memory file to run", signs: ["answer"], ends: { call: "memfd_create" } },
  { what: "signals its parent", signs: ["signal"], ends: { call: "kill" } },
  { what: "removes a file", signs: ["victim"], ends: { call: "unlink" } },
  { what: "changes a file's mode", signs: ["victim"], ends: { call: "chmod" } },
  { what: "runs a shell command", signs: ["file"], ends: { call: null } },
  { what: "opens a weight file anew, for writing", signs: ["answer"], ends: { call: "openat" } },
  { what: "calls the kernel as a 32-bit program", signs: ["answer"], ends: { call: null } },
  { what: "calls the kernel as an x32 program", signs: [], ends: { call: null } },
  { what: "creates a file through openat2", signs: ["file"], ends: { errno: ENOSYS } },
];

/** A prompt of one token attacks nothing. */
export const tokensOf = (attack: Attack): number => attacks.indexOf(attack) + 2;
