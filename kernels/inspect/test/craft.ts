import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A library that every check passes, as C++. */
export const harmless = `
#include <math.h>
extern "C" __attribute__((visibility("default"))) const void* kl_get_api(unsigned abi) {
  static const void* table[2] = {(const void*)&kl_get_api, (const void*)&sqrtf};
  return abi == 0 ? table : nullptr;
}
`;

const compileFlags = "-std=c++20 -O2 -fPIC -fvisibility=hidden -fno-exceptions -fno-rtti -shared -nostartfiles".split(
  " ",
);
const linkFlags = "-nodefaultlibs -Wl,--build-id=none,--as-needed,-z,relro,-z,now,-z,noexecstack -s".split(" ");

/** Compiles one source into a shared object as the builder would, with whatever is to be wrong about it added. */
export function library(
  source: string = harmless,
  extra: readonly string[] = [],
  libraries: readonly string[] = ["-lm", "-lc"],
): Buffer {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-elf-"));
  try {
    writeFileSync(join(folder, "a.cc"), source);
    const args = [...compileFlags, ...linkFlags, ...extra, "-o", "a.so", "a.cc", ...libraries];
    execFileSync("g++", args, { cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
    return readFileSync(join(folder, "a.so"));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A copy with some bytes changed. */
export function patched(bytes: Buffer, at: number, ...values: number[]): Buffer {
  const copy = Buffer.from(bytes);
  copy.set(values, at);
  return copy;
}

/** File offset of the n-th program header of a type. */
export function programHeader(bytes: Buffer, type: number, n = 0): number {
  const start = Number(bytes.readBigUInt64LE(32));
  for (let i = 0, left = n; i < bytes.readUInt16LE(56); i++) {
    const at = start + i * 56;
    if (bytes.readUInt32LE(at) === type && left-- === 0) return at;
  }
  throw new Error(`no program header of type ${type}`);
}

/** File offset of an entry of the dynamic section. */
export function dynamicEntry(bytes: Buffer, tag: number): number {
  const header = programHeader(bytes, 2);
  let at = Number(bytes.readBigUInt64LE(header + 8));
  for (; ; at += 16) {
    const found = bytes.readBigUInt64LE(at);
    if (found === BigInt(tag)) return at;
    if (found === 0n) throw new Error(`no dynamic entry ${tag}`);
  }
}

/** A copy in which the dynamic entry `tag` has become another one. */
export function retagged(bytes: Buffer, tag: number, other: number, value?: bigint): Buffer {
  const copy = Buffer.from(bytes);
  const at = dynamicEntry(copy, tag);
  copy.writeBigUInt64LE(BigInt(other), at);
  if (value !== undefined) copy.writeBigUInt64LE(value, at + 8);
  return copy;
}
