/** The CUDA driver's library: where it lies, and whether that place is one that only the system's owner writes to. */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, openSync, readFileSync, readSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { type Digest, fail } from "@kernlock/kernels/format";

export interface DriverFile {
  /** Of the library itself, all links followed. */
  readonly path: string;
  readonly digest: Digest;
}

const name = "libcuda.so.1";
/** Where distributions, containers, WSL and NixOS keep it, should the loader's cache not say. */
const folders = [
  ...["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib"],
  ...["/usr/lib/wsl/lib", "/run/opengl-driver/lib"],
];

/** The library's path, links followed; null where there is none. Nothing is loaded. @throws KL_DEVICE_DRIVER */
export function findDriver(): string | null {
  for (const candidate of [...cached(), ...folders.map((folder) => join(folder, name))]) {
    const real = existing(candidate);
    if (real !== null) return trusted(real);
  }
  return null;
}

/** Reads all of the library, which takes a moment. @throws KL_DEVICE_DRIVER */
export async function hashDriver(path: string): Promise<DriverFile> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return { path, digest: `sha256:${hash.digest("hex")}` };
}

/** Paths that the system's loader knows for the name: the cache holds them as text between zero bytes. */
function cached(): string[] {
  try {
    const text = readFileSync("/etc/ld.so.cache", "latin1");
    return [...text.matchAll(/\0(\/[^\0]{1,4000}\/libcuda\.so\.1)(?=\0)/g)].map((match) => match[1]!);
  } catch {
    return [];
  }
}

function existing(path: string): string | null {
  try {
    const real = realpathSync(path);
    return statSync(real).isFile() && is64Bit(real) ? real : null;
  } catch {
    return null;
  }
}

/** A 32-bit library of the same name may stand first in the cache. */
function is64Bit(path: string): boolean {
  const head = Buffer.alloc(5);
  const fd = openSync(path, "r");
  readSync(fd, head, 0, 5, 0);
  closeSync(fd);
  return head[4] === 2;
}

/** Whoever can write the file, or a folder above it, decides what runs in the engine: that may be root alone. */
function trusted(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    const { uid, mode } = statSync(at);
    const open = (mode & 0o022) !== 0 && !((mode & 0o1000) !== 0 && at !== path);
    if (uid !== 0 || open) {
      fail("KL_DEVICE_DRIVER", `The CUDA driver ${path} is not taken: ${at} can be written by others than root.`, {
        remedy: "Install the driver where only root writes, or mend the owner and mode.",
        details: { path, writable: at },
      });
    }
    if (at === dirname(at)) return path;
  }
}
