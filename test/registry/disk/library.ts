/** Builds `files.c`, which stands between a process and its files. */
import { execFileSync } from "node:child_process";
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { newFolder } from "../drivers.ts";

function library(): string {
  const path = join(newFolder(), "files.so");
  execFileSync("gcc", ["-O1", "-shared", "-fPIC", "-o", path, join(import.meta.dirname, "files.c"), "-ldl"]);
  return path;
}

/** What a process needs in its environment for its changes below `folder` to be written down in `log`. */
export function recording(folder: string, log: string): Record<string, string> {
  return { LD_PRELOAD: library(), KERNLOCK_FILES_ROOT: folder, KERNLOCK_FILES_LOG: log };
}

export type FileError = "EIO" | "EROFS" | "ENOSPC";

/** Which calls fail, and how; what is not named works. */
export interface Faults {
  readonly write?: FileError;
  readonly sync?: FileError;
  /** Opening for writing, renaming, removing. */
  readonly change?: FileError;
  readonly read?: FileError;
  readonly syncDelayMs?: number;
}

/** A disk whose faults are set while a process runs on it. */
export function faultyDisk(folder: string): { env: Record<string, string>; set(faults: Faults): void } {
  const page = join(newFolder(), "faults");
  writeFileSync(page, Buffer.alloc(4096));
  return {
    env: { LD_PRELOAD: library(), KERNLOCK_FILES_ROOT: folder, KERNLOCK_FILES_FAULTS: page },
    set({ write, sync, change, read, syncDelayMs = 0 }) {
      const numbers = [write, sync, change, read].map((name) => (name === undefined ? 0 : constants.errno[name]));
      const file = openSync(page, "r+");
      writeSync(file, Buffer.from(new Int32Array([...numbers, syncDelayMs]).buffer), 0, 20, 0);
      closeSync(file);
    },
  };
}
