import { fstatSync, readSync } from "node:fs";
import { createRequire } from "node:module";
import { buildAddon } from "@kernlock/kernels/build/addon";
import { fail } from "@kernlock/kernels/format";

/** Sealed memory files. The addon is compiled on first use; nothing else of the loader needs it. */
export interface Native {
  /** A new memory file that can be sealed and, where the kernel knows how, never be executed as a program. */
  createSealable(name: string): number;
  /** No write, no growth, no shrinking, no further seals, from now on. */
  seal(fd: number): void;
  /** The seals of a descriptor (F_GET_SEALS); throws on what is not a memory file. */
  seals(fd: number): number;
}

/** F_SEAL_SEAL, _SHRINK, _GROW and _WRITE. */
export const requiredSeals = 0xf;

let loaded: Native | undefined;

/** Path of the addon, built on first use: everything that seals nothing works without a compiler. @throws KL_ADDON_* */
export const memoryAddonPath = (): string =>
  buildAddon({ name: "memory", folder: import.meta.dirname, sources: ["memory.cc"] });

/** Throws KL_ADDON_* where the addon cannot be built, KL_SEAL_UNAVAILABLE where this system cannot seal memory files. */
export async function loadNative(): Promise<Native> {
  if (loaded !== undefined) return loaded;
  const addon = createRequire(import.meta.url)(memoryAddonPath()) as Native;
  loaded = {
    createSealable: (name) => typed(() => addon.createSealable(name)),
    seal: (fd) => typed(() => addon.seal(fd)),
    seals: (fd) => typed(() => addon.seals(fd)),
  };
  return loaded;
}

function typed<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    return fail("KL_SEAL_UNAVAILABLE", `A memory file cannot be sealed (${(cause as Error).message}).`, {
      remedy: "Kernels are loaded from sealed memory files only: run on Linux, where memfd_create is allowed.",
      cause,
    });
  }
}

/** A new, empty file in memory, which its holder fills. @throws KL_ADDON_*, KL_SEAL_UNAVAILABLE */
export const memoryFile = async (name: string): Promise<number> => (await loadNative()).createSealable(name);

/** All bytes of a sealed file, read from the descriptor's start and not from wherever it came. */
export function readSealed(fd: number): Uint8Array {
  const bytes = Buffer.allocUnsafe(fstatSync(fd).size);
  for (let at = 0; at < bytes.byteLength; ) {
    const count = readSync(fd, bytes, at, bytes.byteLength - at, at);
    if (count === 0) return fail("KL_SEAL_UNAVAILABLE", "A sealed memory file ended early.");
    at += count;
  }
  return bytes;
}
