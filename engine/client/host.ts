/** The host process: started with descriptors and nothing else, watched until it ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { KernlockError } from "@kernlock/kernels/format";
import {
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
  send(message: ToHost): void;
  /** Closes the channel, upon which the host ends; waits for that. */
  close(): Promise<void>;
}

export interface HostEvents {
  onMessage(message: HostMessage, tail: Uint8Array): void;
  /** Once, when nothing more will come. */
  onEnd(reason: KernlockError): void;
}

/** `fds[i]` becomes descriptor `channelFd + 1 + i` of the host. */
export function startHost(fds: readonly number[], events: HostEvents): Host {
  const main = join(import.meta.dirname, "..", "host", import.meta.filename.endsWith(".ts") ? "main.ts" : "main.js");
  const child = spawn(process.execPath, [main], {
    cwd: "/",
    // Nothing of the caller's environment: no LD_*, NODE_OPTIONS, CUDA_INJECTION*, no secrets.
    env: { CUDA_CACHE_DISABLE: "1" },
    // Standard output is the caller's own; a kernel that prints must not reach it.
    stdio: ["ignore", "ignore", "inherit", "pipe", ...fds],
  });
  const channel = child.stdio[channelFd] as Duplex;
  let reason: KernlockError | null = null;
  let closing = false;
  const ended = new Promise<void>((resolve) => {
    const end = (text: string): void => {
      events.onEnd(reason ?? died(closing, text));
      resolve();
    };
    child.once("error", (error) => end(error.message));
    child.once("close", (code, signal) => end(signal === null ? `exit code ${code}` : `signal ${signal}`));
  });
  const read = frameReader((json, tail) => {
    const message = parseFromHost(json);
    if (message.type === "failed" && message.id === null) reason = fromWireError(message.error);
    else events.onMessage(message, tail);
  });
  channel.on("data", (chunk: Buffer) => {
    try {
      read(chunk);
    } catch (error) {
      // It does not keep to the protocol, so nothing it says can be used.
      reason ??= error as KernlockError;
      channel.destroy();
      child.kill("SIGKILL");
    }
  });
  channel.on("error", () => {});
  return {
    pid: child.pid ?? -1,
    send(message) {
      if (channel.writable) for (const part of frame(message)) channel.write(part);
    },
    async close() {
      closing = true;
      channel.end();
      channel.destroy();
      const patience = setTimeout(() => child.kill("SIGKILL"), 5000);
      await Promise.race([ended, exited(child)]);
      clearTimeout(patience);
    },
  };
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
