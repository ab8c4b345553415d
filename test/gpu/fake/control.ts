/**
 * Builds the fake driver (driver.cc) into a folder of its own and is its other side: reads what it counts, and says where
 * it is to fail.
 *
 * The engine has no way to be told of another driver: it takes the one of the system's folders, and only where nobody but
 * root can write. Tests of the runtime open the device by the library's path, which only the engine's own code can do; tests
 * of whole commands put the library into such a folder within a mount namespace (namespace.ts).
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const native = join(import.meta.dirname, "..", "..", "..", "engine", "native");
export const words = 64;
const rest = [
  "total",
  "used",
  "allocations",
  "modules",
  "events",
  "graphs",
  "execs",
  "kernels",
  "dependent",
  "fault_kernel",
  "lost",
  "hold",
  "copied",
] as const;
type Rest = (typeof rest)[number];

/** As the header lists them, which is how the table is numbered. */
export const functions = [...readFileSync(join(native, "cuda_driver.h"), "utf8").matchAll(/^\s*X\(\w+, "(\w+)"/gm)].map(
  (match) => match[1]!,
);

export interface FakeDriver {
  readonly folder: string;
  readonly path: string;
  /** How often a function was called since `reset`. */
  calls(name: string): number;
  get(what: Rest): number;
  set(what: Rest, value: number): void;
  /** The nth call from now on (from `reset`, where there was one) returns that number. */
  failAt(name: string, call: number, result: number): void;
  /** Forgets calls, faults and a lost device; what is allocated stays. */
  reset(): void;
  remove(): void;
}

/** `old`: lacks a function that the runtime needs. @throws when it does not compile */
export function buildFakeDriver({ old = false, gigabytes = 80 } = {}): FakeDriver {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-driver-"));
  return fakeDriverIn(folder, { old, gigabytes });
}

/** The library, compiled once for its sources. */
function compiled(extra: readonly string[]): string {
  const source = join(import.meta.dirname, "driver.cc");
  const hash = createHash("sha256").update(JSON.stringify(extra));
  for (const path of [source, join(native, "cuda_driver.h")]) hash.update(readFileSync(path));
  const build = join(import.meta.dirname, "..", "..", "..", ".build", "ops");
  const target = join(build, `fake-driver-${hash.digest("hex").slice(0, 16)}.so`);
  if (existsSync(target)) return target;
  mkdirSync(build, { recursive: true });
  const temporary = `${target}.${process.pid}`;
  const flags = ["-std=c++20", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", `-I${native}`, ...extra];
  const { status, stderr } = spawnSync("g++", [...flags, "-o", temporary, source, "-ldl"], { encoding: "utf8" });
  if (status !== 0) throw new Error(`the fake driver does not compile:\n${stderr}`);
  renameSync(temporary, target);
  return target;
}

export function fakeDriverIn(folder: string, { old = false, gigabytes = 80 } = {}): FakeDriver {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, "libcuda.so.1");
  copyFileSync(compiled(old ? ["-DFAKE_OLD"] : []), path);
  writeFileSync(join(folder, "state"), new Uint8Array(8 * (3 * words + rest.length)));
  const file = openSync(join(folder, "state"), "r+");
  const number = (name: string): number => {
    const found = functions.indexOf(name);
    if (found < 0) throw new Error(`the runtime does not use ${name}`);
    return found;
  };
  const read = (word: number): number => {
    const bytes = Buffer.alloc(8);
    readSync(file, bytes, 0, 8, 8 * word);
    return Number(bytes.readBigUInt64LE());
  };
  const write = (word: number, value: number): void => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    writeSync(file, bytes, 0, 8, 8 * word);
  };
  const driver: FakeDriver = {
    ...{ folder, path },
    calls: (name) => read(number(name)),
    get: (what) => read(3 * words + rest.indexOf(what)),
    set: (what, value) => write(3 * words + rest.indexOf(what), value),
    failAt(name, call, result) {
      write(words + number(name), call);
      write(2 * words + number(name), result);
    },
    reset() {
      for (let word = 0; word < 3 * words; word++) write(word, 0);
      for (const what of ["kernels", "dependent", "fault_kernel", "lost", "hold", "copied"] as const)
        driver.set(what, 0);
    },
    remove() {
      closeSync(file);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  driver.set("total", gigabytes * 2 ** 30);
  return driver;
}
