import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { KernlockError } from "../../format/index.ts";
import { checkSharedObject, type ElfCheck, inspectElf } from "../index.ts";
import { dynamicEntry, harmless, library, patched, programHeader, retagged } from "./craft.ts";

const expected: ElfCheck = {
  allowedLibraries: ["libc.so.6", "libm.so.6"],
  libcMaximum: "2.40",
  exports: ["kl_get_api"],
};

function verdict(bytes: Uint8Array, check: ElfCheck = expected): string {
  try {
    checkSharedObject(inspectElf(bytes), check);
    return "accepted";
  } catch (error) {
    if (error instanceof KernlockError) return error.code;
    throw error;
  }
}

let good: Buffer;
beforeAll(() => {
  good = library();
});

test("a harmless library: its facts, and nothing against it", () => {
  const facts = inspectElf(good);
  expect(facts).toMatchObject({
    class: 64,
    machine: 62,
    type: 3,
    executableStack: false,
    writableAndExecutable: false,
    textRelocations: false,
    needed: ["libm.so.6"],
    exports: ["kl_get_api"],
    imports: ["sqrtf"],
    initializers: [],
    hooks: [],
    ifuncSymbols: [],
    ifuncRelocations: 0,
    runpath: null,
    rpath: null,
  });
  expect(facts.versions["libm.so.6"]).toEqual(["GLIBC_2.2.5"]);
  expect(facts.libcFloor).toBe("2.2");
  expect(verdict(good)).toBe("accepted");
});

test("both kinds of hash table are understood", () => {
  for (const style of ["sysv", "gnu", "both"]) {
    expect(inspectElf(library(harmless, [`-Wl,--hash-style=${style}`])).exports).toEqual(["kl_get_api"]);
  }
});

test("section headers play no part", () => {
  const zeroed = patched(good, 40, ...new Array(8).fill(0));
  zeroed.fill(0, 58, 64);
  expect(inspectElf(zeroed)).toEqual(inspectElf(good));
});

const onLoad = `${harmless} __attribute__((constructor)) static void evil() { asm volatile(""); }`;
const onUnload = `${harmless} __attribute__((destructor)) static void evil() { asm volatile(""); }`;
const staticInit = `${harmless} struct S { int v; S() { asm volatile("" : "=r"(v)); } }; static volatile S s;`;
const ifunc = `${harmless}
extern "C" { static int one() { return 1; } }
extern "C" int (*pick_one())() { return one; }
extern "C" __attribute__((ifunc("pick_one"))) int chosen();
extern "C" int use() { return chosen(); }`;
const textRelocation = `${harmless}
asm(".section .text\\n.globl where\\n.hidden where\\nwhere: .quad kl_get_api\\n");`;
const extraExport = `${harmless} extern "C" __attribute__((visibility("default"))) int extra() { return 1; }`;

describe("what a loader must not be given", () => {
  test.each<[string, string, () => Buffer]>([
    ["a constructor", "KL_ELF_INITIALIZER", () => library(onLoad)],
    ["a destructor", "KL_ELF_INITIALIZER", () => library(onUnload)],
    ["a static initialiser", "KL_ELF_INITIALIZER", () => library(staticInit)],
    ["an init function", "KL_ELF_INITIALIZER", () => library(harmless, ["-Wl,-init=kl_get_api"])],
    ["a fini function", "KL_ELF_INITIALIZER", () => library(harmless, ["-Wl,-fini=kl_get_api"])],
    ["RUNPATH", "KL_ELF_RUNPATH", () => library(harmless, ["-Wl,-rpath,/tmp/evil,--enable-new-dtags"])],
    ["RPATH", "KL_ELF_RUNPATH", () => library(harmless, ["-Wl,-rpath,$ORIGIN/evil,--disable-new-dtags"])],
    ["an executable stack", "KL_ELF_EXECUTABLE_STACK", () => library(harmless, ["-Wl,-z,execstack"])],
    [
      "no word on the stack",
      "KL_ELF_EXECUTABLE_STACK",
      () => patched(good, programHeader(good, 0x6474e551), 0, 0, 0, 0),
    ],
    ["a foreign library", "KL_ELF_LIBRARY", () => library(harmless, ["-Wl,--no-as-needed"], ["-lm", "-lc", "-lgcc_s"])],
    ["the C++ runtime", "KL_ELF_LIBRARY", () => library(harmless, ["-Wl,--no-as-needed"], ["-lstdc++", "-lm", "-lc"])],
    ["an indirect function", "KL_ELF_IFUNC", () => library(ifunc)],
    ["a relocation in the code", "KL_ELF_TEXT_RELOCATION", () => library(textRelocation, ["-Wl,-z,notext"])],
    ["writable code", "KL_ELF_WRITABLE_CODE", () => library(harmless, ["-Wl,-N"])],
    ["an extra export", "KL_ELF_EXPORTS", () => library(extraExport)],
    ["an audit library", "KL_ELF_HOOK", () => library(harmless, ["-Wl,--audit,evil.so"])],
    ["an audit library for others", "KL_ELF_HOOK", () => library(harmless, ["-Wl,--depaudit,evil.so"])],
    ["a filter", "KL_ELF_HOOK", () => library(harmless, ["-Wl,-F,evil.so"])],
    ["an auxiliary filter", "KL_ELF_HOOK", () => library(harmless, ["-Wl,-f,evil.so"])],
    ["a library that never leaves", "KL_ELF_FLAGS", () => library(harmless, ["-Wl,-z,nodelete"])],
    ["a library that comes first", "KL_ELF_FLAGS", () => library(harmless, ["-Wl,-z,initfirst"])],
    ["a library that steps between", "KL_ELF_FLAGS", () => library(harmless, ["-Wl,-z,interpose"])],
    ["an interpreter", "KL_ELF_INTERPRETER", () => interpreter()],
    ["a missing symbol", "KL_ELF_SYMBOL_MISSING", () => library(harmless.replaceAll("kl_get_api", "kl_other"))],
    ["another machine", "KL_ELF_MACHINE", () => patched(good, 18, 183, 0)],
    ["an executable", "KL_ELF_TYPE", () => patched(good, 16, 2, 0)],
    ["a 32-bit file", "KL_ELF_CLASS", () => patched(good, 4, 1)],
    ["a big-endian file", "KL_ELF_ENDIANNESS", () => patched(good, 5, 2)],
    ["something else", "KL_ELF_MAGIC", () => Buffer.from("#!/bin/sh\necho hello\n")],
    ["nothing", "KL_ELF_TRUNCATED", () => Buffer.alloc(0)],
    [
      "a file cut short",
      "KL_ELF_TRUNCATED",
      () => good.subarray(0, Number(good.readBigUInt64LE(programHeader(good, 2) + 8)) + 8),
    ],
    ["a file cut in its header", "KL_ELF_TRUNCATED", () => good.subarray(0, 40)],
    ["no dynamic section", "KL_ELF_DYNAMIC", () => patched(good, programHeader(good, 2), 0, 0, 0, 0)],
    ["a dynamic section twice", "KL_ELF_DYNAMIC", () => patched(good, programHeader(good, 0x6474e552), 2, 0, 0, 0)],
    ["an entry twice", "KL_ELF_DYNAMIC", () => retagged(good, 11, 10)],
    ["names outside the file", "KL_ELF_DYNAMIC", () => retagged(good, 5, 5, 1n << 30n)],
    [
      "a flag hidden in a huge number",
      "KL_ELF_SEGMENT",
      () => retagged(good, 0x6ffffffb, 0x6ffffffb, (1n << 63n) + 8n),
    ],
    [
      "a dynamic section mapped from elsewhere",
      "KL_ELF_DYNAMIC",
      () => patched(good, programHeader(good, 2) + 8, 0, 0),
    ],
    [
      "memory of others made read-only",
      "KL_ELF_SEGMENT",
      () => patched(good, programHeader(good, 0x6474e552) + 18, 0x10),
    ],
    ["overlapping segments", "KL_ELF_SEGMENT", () => patched(good, programHeader(good, 1, 1) + 16, 0, 0, 0)],
  ])("%s: %s", (_, code, make) => {
    expect(verdict(make())).toBe(code);
  });

  test("a newer C library than allowed", () => {
    const bytes = library(harmless.replaceAll("sqrtf", "expf"));
    expect(inspectElf(bytes).libcFloor).toBe("2.27");
    expect(verdict(bytes, { ...expected, libcMaximum: "2.9" })).toBe("KL_ELF_LIBC");
    expect(verdict(bytes, { ...expected, libcMaximum: "2.27" })).toBe("accepted");
  });

  test("a relocation that reaches for a symbol beyond the hash table", () => {
    // The first relocation that names a symbol gets a symbol number that no table reaches.
    const copy = Buffer.from(good);
    const at = Number(copy.readBigUInt64LE(dynamicEntry(copy, 7) + 8));
    const size = Number(copy.readBigUInt64LE(dynamicEntry(copy, 8) + 8));
    for (let r = at; r < at + size; r += 24) copy.writeUInt32LE(60_000, r + 12);
    expect(verdict(copy)).toBe("KL_ELF_DYNAMIC");
  });
});

function interpreter(): Buffer {
  // The linker writes PT_INTERP for programs only; a PT_GNU_RELRO header is made into one.
  return patched(good, programHeader(good, 0x6474e552), 3, 0, 0, 0);
}

test("hostile bytes give coded errors or facts, never anything else", () => {
  // A small generator with a fixed seed: the same mutations every time.
  let seed = 12345;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const dynamic = Number(good.readBigUInt64LE(programHeader(good, 2) + 8));
  const codes = new Set<string>();
  for (let round = 0; round < 20_000; round++) {
    const copy = Buffer.from(good);
    for (let n = 1 + random(3); n > 0; n--) {
      const at = [random(64 + 56 * 9), dynamic + random(400), random(2048), random(copy.length)][random(4)]!;
      copy[Math.min(at, copy.length - 1)] = [0, 1, 255, 0x7f, random(256)][random(5)]!;
    }
    codes.add(verdict(random(4) === 0 ? copy.subarray(0, random(copy.length)) : copy));
  }
  expect(codes.size).toBeGreaterThan(10);
  for (const code of codes) expect(code).toMatch(/^(accepted|KL_ELF_[A-Z_]+)$/);
});

test("large real files are read in milliseconds", () => {
  const bytes = readFileSync(process.execPath);
  const start = performance.now();
  const facts = inspectElf(bytes);
  expect(performance.now() - start).toBeLessThan(2000);
  expect(facts.interpreter).toBe(true);
});
