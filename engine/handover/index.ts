/**
 * Open files for a process that runs already: weights and sealed kernels, which are known only after the host was started.
 * They go over a socket of their own, one way and once; the host closes its end before it loads the first kernel, and
 * what it confines itself to can receive none.
 */
import { closeSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildAddon } from "@kernlock/kernels/build/addon";
import { fail } from "@kernlock/kernels/format";

interface Native {
  pair(): [number, number];
  send(socket: number, descriptors: readonly number[]): void;
  receive(socket: number, count: number): number[];
}

/** @throws KL_ADDON_* */
export const handoverAddonPath = (): string =>
  buildAddon({ name: "handover", folder: join(import.meta.dirname, "native"), sources: ["handover.cc"] });

let native: Native | undefined;
function addon(): Native {
  native ??= createRequire(import.meta.url)(handoverAddonPath()) as Native;
  return native;
}

export interface Handover {
  /** The end that the other process inherits. */
  readonly theirs: number;
  /** Closes that end here, once the process has been started. */
  started(): void;
  /** Once. Ours may be closed afterwards: theirs are descriptors of their own. A process that has ended gets nothing. */
  send(descriptors: readonly number[]): void;
  close(): void;
}

/** @throws KL_ADDON_* */
export function openHandover(): Handover {
  const [ours, theirs] = addon().pair();
  const open = new Set([ours, theirs]);
  const close = (end: number): void => {
    if (open.delete(end)) closeSync(end);
  };
  return {
    theirs,
    started: () => close(theirs),
    send(descriptors) {
      if (!open.has(ours)) return;
      try {
        addon().send(ours, descriptors);
      } catch {
        // Whoever waits for the process hears how it ended, or that it got nothing.
      } finally {
        close(ours);
      }
    },
    close() {
      for (const end of [...open]) close(end);
    },
  };
}

/** What was sent to this process before it was told to take it. The socket is closed. @throws KL_ENGINE_INTERNAL */
export function takeDescriptors(socket: number, count: number): number[] {
  try {
    const taken = addon().receive(socket, count);
    if (taken.length === count) return taken;
    return fail("KL_ENGINE_INTERNAL", `${taken.length} of ${count} open files were handed over.`);
  } catch (error) {
    return fail("KL_ENGINE_INTERNAL", `Open files were not handed over (${(error as Error).message}).`, {
      cause: error,
    });
  } finally {
    closeSync(socket);
  }
}
