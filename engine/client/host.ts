/** The host process: started with descriptors and nothing else, watched until it ends. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Duplex, Readable, Writable } from "node:stream";
import { KernlockError } from "@kernlock/kernels/format";
import {
  allowedToHost,
  type Confinement,
  confineAddonPath,
  confineArguments,
  type Effort,
  spawnConfined,
  starterRefused,
  violation,
  witness,
} from "../confine/index.ts";
import { openHandover } from "../handover/index.ts";
import {
  alarmFd,
  type Beginning,
  channelFd,
  frame,
  frameReader,
  fromWireError,
  type HostMessage,
  parseFromHost,
  type ToHost,
} from "./protocol.ts";

export interface Host {
  readonly pid: number;
  /** As seen from here when it had confined itself; null before. */
  readonly confinement: Confinement | null;
  send(message: ToHost): void;
  /** Hands over open files, of which the message speaks by their positions, and then the message. Once. */
  begin(message: Beginning, fds: readonly number[]): void;
  /** What is sent while `work` runs is handed over in one piece. */
  together<T>(work: () => T): T;
  /** Closes the channel, upon which the host ends; waits for that. */
  close(): Promise<void>;
  /** Ends the host at once: nothing that it does is wanted. Waits until it is gone. */
  end(): Promise<void>;
}

export interface HostEvents {
  onMessage(message: Exclude<HostMessage, { type: "confined" | "prepared" }>, tail: Uint8Array): void;
  /** The host has done what `prepare` asks for. */
  onPrepared?(): void;
  /** Once, when nothing more will come. */
  onEnd(reason: KernlockError): void;
}

export interface HostOptions {
  /** Default `required`. */
  readonly effort?: Effort;
  /** Whether it will use a GPU. Default no. */
  readonly cuda?: boolean;
  /** For tests, which must see what a kernel does that nothing confines. */
  readonly start?: StartProcess;
}

/** Starts the main module with these descriptors. `alarm`: descriptor that hears of refused calls. */
export type StartProcess = (
  main: string,
  stdio: readonly (number | "ignore" | "pipe")[],
  alarm: number,
) => ChildProcess;

const startConfined =
  (effort: Effort, cuda: boolean): StartProcess =>
  (main, stdio, alarm) =>
    spawnConfined({
      args: [main, ...confineArguments(confineAddonPath(), alarm, effort)],
      // Nothing of the caller's environment: no LD_*, NODE_OPTIONS, CUDA_INJECTION*, no secrets.
      env: cuda ? { CUDA_CACHE_DISABLE: "1" } : {},
      allowed: allowedToHost(cuda),
      stdio,
      effort,
    });

/** @throws KL_CONFINE_UNAVAILABLE, KL_ADDON_* */
export function startHost(events: HostEvents, options: HostOptions = {}): Host {
  const { effort = "required", cuda = false, start = startConfined(effort, cuda) } = options;
  const main = join(import.meta.dirname, "..", "host", import.meta.filename.endsWith(".ts") ? "main.ts" : "main.js");
  const handover = openHandover();
  // Standard output is the caller's own; a kernel that prints must not reach it.
  const child = ((): ChildProcess => {
    try {
      return start(main, ["ignore", "ignore", "pipe", "pipe", "pipe", handover.theirs], alarmFd);
    } catch (error) {
      handover.close();
      throw error;
    }
  })();
  handover.started();
  const channel = child.stdio[channelFd] as Duplex;
  let reason: KernlockError | null = null;
  let closing = false;
  let confinement: Confinement | null = null;
  const printed = passOn(child.stderr!, process.stderr);
  const kill = (why: KernlockError): void => {
    // What was tried explains whatever else went wrong.
    if (why.code === "KL_CONFINE_VIOLATION") reason = why;
    reason ??= why;
    channel.destroy();
    child.kill("SIGKILL");
  };
  const ended = new Promise<void>((resolve) => {
    const end = (text: string): void => {
      handover.close();
      events.onEnd(reason ?? died(closing, text));
      resolve();
    };
    child.once("error", (error) => end(error.message));
    child.once("close", (code, signal) => {
      // Refused while signals were blocked, so that the kernel ended the process instead.
      if (signal === "SIGSYS" && reason?.code !== "KL_CONFINE_VIOLATION") reason = violation(null);
      if (code === starterRefused && !heard) reason ??= notStarted(printed());
      end(signal === null ? `exit code ${code}` : `signal ${signal}`);
    });
  });
  // Whoever has tried once to break out is not asked anything more.
  const alarm = child.stdio[alarmFd] as Duplex;
  alarm.on("data", (chunk: Buffer) => kill(violation(chunk.length >= 4 ? chunk.readUInt32LE(0) : null)));
  alarm.on("error", () => {});
  let heard = false;
  const read = frameReader((json, tail) => {
    heard = true;
    const message = parseFromHost(json);
    if (message.type === "failed" && message.id === null) reason ??= fromWireError(message.error);
    else if (message.type === "prepared") events.onPrepared?.();
    else if (message.type === "confined") confinement = witnessed(child.pid!, effort);
    else if (message.type === "ready" && confinement === null && options.start === undefined) kill(notConfined({}));
    // Of a call that was refused before this was said, the alarm is heard by then.
    else if (message.type === "finished") setImmediate(() => events.onMessage(message, tail));
    else events.onMessage(message, tail);
  });
  channel.on("data", (chunk: Buffer) => {
    try {
      read(chunk);
    } catch (error) {
      // It does not keep to the protocol, so nothing it says can be used.
      kill(error as KernlockError);
    }
  });
  channel.on("error", () => {});
  const send = (message: ToHost): void => {
    if (channel.writable) for (const part of frame(message)) channel.write(part);
  };
  const gone = async (): Promise<void> => {
    const patience = setTimeout(() => child.kill("SIGKILL"), 5000);
    await Promise.race([ended, exited(child)]);
    clearTimeout(patience);
  };
  return {
    pid: child.pid ?? -1,
    get confinement() {
      return confinement;
    },
    send,
    begin(message, fds) {
      handover.send(fds);
      send({ ...message, descriptors: fds.length });
    },
    together(work) {
      channel.cork();
      try {
        return work();
      } finally {
        channel.uncork();
      }
    },
    async close() {
      closing = true;
      channel.end();
      channel.destroy();
      await gone();
    },
    async end() {
      closing = true;
      channel.destroy();
      child.kill("SIGKILL");
      await gone();
    },
  };
}

/** Seen from outside, before the first kernel is loaded or soon after. @throws KL_CONFINE_UNAVAILABLE */
function witnessed(pid: number, effort: Effort): Confinement {
  const seen = witness(pid, effort);
  if (effort === "best-effort" || (seen.landlock > 0 && seen.seccomp && seen.no_new_privs && seen.no_capabilities))
    return seen;
  throw notConfined({ ...seen });
}

const notConfined = (details: Record<string, unknown>): KernlockError =>
  new KernlockError("KL_CONFINE_UNAVAILABLE", "The engine host should have confined itself, and has not.", { details });

const notStarted = (why: string): KernlockError =>
  new KernlockError("KL_CONFINE_UNAVAILABLE", `The engine host cannot be started confined (${why.trim()}).`, {
    remedy: "Run kernlock doctor; confinement: best-effort in the policy leaves out what this system lacks.",
  });

/** At most so much of what a kernel prints is passed on. */
const mostPrinted = 64 << 10;

/** Without what a terminal would obey. */
function passOn(from: Readable, to: Writable): () => string {
  let left = mostPrinted;
  let first = "";
  from.setEncoding("utf8").on("data", (text: string) => {
    const plain = text.slice(0, Math.max(0, left)).replace(/[^\P{C}\n\t]/gu, "?");
    left -= text.length;
    first ||= plain.slice(0, 500);
    to.write(plain);
  });
  return () => first;
}

async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

const died = (closing: boolean, how: string): KernlockError =>
  closing
    ? new KernlockError("KL_ENGINE_CLOSED", "The engine has been closed.")
    : new KernlockError("KL_ENGINE_DIED", `The engine host ended unexpectedly (${how}).`, {
        remedy: "Run kernlock doctor; if it happens again, the kernel that ran is the first suspect.",
        details: { how },
      });
