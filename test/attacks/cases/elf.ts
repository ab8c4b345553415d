import {
  dynamicEntry,
  harmless,
  library,
  patched,
  programHeader,
  retagged,
} from "../../../kernels/inspect/test/craft.ts";
import { type Attack, inspected } from "../attack.ts";
import { libraries } from "../pack.ts";

const good = () => libraries().good;
const PT = { load: 1, dynamic: 2, interp: 3, stack: 0x6474e551, relro: 0x6474e552 };
const asType = (header: number, type: number) =>
  patched(good(), programHeader(good(), header), type & 255, type >> 8, 0, 0);
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
const extraExport = `${harmless} extern "C" __attribute__((visibility("default"))) int sched_yield() { return 1; }`;
const half = () => good().subarray(0, Number(good().readBigUInt64LE(programHeader(good(), PT.dynamic) + 8)) + 8);

type Row = [number: Attack["number"], name: string, code: `KL_${string}`, payload: () => Uint8Array];
const rows: Row[] = [
  [
    97,
    "RUNPATH that leads to a planted folder",
    "KL_ELF_RUNPATH",
    () => library(harmless, ["-Wl,-rpath,$ORIGIN/evil,--enable-new-dtags"]),
  ],
  [
    97,
    "RPATH, which beats the environment",
    "KL_ELF_RUNPATH",
    () => library(harmless, ["-Wl,-rpath,/tmp/evil,--disable-new-dtags"]),
  ],
  [
    98,
    "a foreign library",
    "KL_ELF_LIBRARY",
    () => library(harmless, ["-Wl,--no-as-needed"], ["-lm", "-lc", "-lgcc_s"]),
  ],
  [
    98,
    "the C++ runtime, whose constructors would run",
    "KL_ELF_LIBRARY",
    () => library(harmless, ["-Wl,--no-as-needed"], ["-lstdc++", "-lm", "-lc"]),
  ],
  [98, "a library by a path with a slash", "KL_ELF_LIBRARY", slashed],
  [100, "a constructor", "KL_ELF_INITIALIZER", () => library(onLoad)],
  [100, "a destructor", "KL_ELF_INITIALIZER", () => library(onUnload)],
  [100, "a static initialiser", "KL_ELF_INITIALIZER", () => library(staticInit)],
  [100, "an init function", "KL_ELF_INITIALIZER", () => library(harmless, ["-Wl,-init=kl_get_api"])],
  [100, "a fini function", "KL_ELF_INITIALIZER", () => library(harmless, ["-Wl,-fini=kl_get_api"])],
  [100, "an indirect function, resolved by running code", "KL_ELF_IFUNC", () => library(ifunc)],
  [101, "an executable stack", "KL_ELF_EXECUTABLE_STACK", () => library(harmless, ["-Wl,-z,execstack"])],
  [101, "no word on the stack, which means executable", "KL_ELF_EXECUTABLE_STACK", () => asType(PT.stack, 0)],
  [101, "a segment that is writable and executable", "KL_ELF_WRITABLE_CODE", () => library(harmless, ["-Wl,-N"])],
  [101, "relocations in the code", "KL_ELF_TEXT_RELOCATION", () => library(textRelocation, ["-Wl,-z,notext"])],
  [102, "a library cut off inside of a segment, which kills by SIGBUS", "KL_ELF_TRUNCATED", half],
  [102, "a library cut off in its header", "KL_ELF_TRUNCATED", () => good().subarray(0, 40)],
  [103, "a library for another machine", "KL_ELF_MACHINE", () => patched(good(), 18, 183, 0)],
  [103, "a 32-bit library", "KL_ELF_CLASS", () => patched(good(), 4, 1)],
  [103, "a big-endian library", "KL_ELF_ENDIANNESS", () => patched(good(), 5, 2)],
  [103, "a program in a library's place", "KL_ELF_TYPE", () => patched(good(), 16, 2, 0)],
  [
    103,
    "a script in a library's place",
    "KL_ELF_MAGIC",
    () => Buffer.from(`#!/bin/sh\necho hello\n${" ".repeat(100)}`),
  ],
  [104, "a library that needs a newer C library than it says", "KL_ELF_LIBC", newerLibc],
  [
    105,
    "a missing entry symbol",
    "KL_ELF_SYMBOL_MISSING",
    () => library(harmless.replaceAll("kl_get_api", "kl_other")),
  ],
  [106, "an audit library", "KL_ELF_HOOK", () => library(harmless, ["-Wl,--audit,evil.so"])],
  [106, "an audit library for what it needs", "KL_ELF_HOOK", () => library(harmless, ["-Wl,--depaudit,evil.so"])],
  [106, "a filter", "KL_ELF_HOOK", () => library(harmless, ["-Wl,-F,evil.so"])],
  [106, "an auxiliary filter", "KL_ELF_HOOK", () => library(harmless, ["-Wl,-f,evil.so"])],
  [106, "a library that never leaves", "KL_ELF_FLAGS", () => library(harmless, ["-Wl,-z,nodelete"])],
  [106, "a library that wants to come first", "KL_ELF_FLAGS", () => library(harmless, ["-Wl,-z,initfirst"])],
  [110, "a library that steps between others", "KL_ELF_FLAGS", () => library(harmless, ["-Wl,-z,interpose"])],
  [110, "an exported function of the C library, to be found by others", "KL_ELF_EXPORTS", () => library(extraExport)],
  ["own", "an interpreter", "KL_ELF_INTERPRETER", () => asType(PT.relro, PT.interp)],
  ["own", "no dynamic section", "KL_ELF_DYNAMIC", () => asType(PT.dynamic, 0)],
  ["own", "two dynamic sections, one for us and one for glibc", "KL_ELF_DYNAMIC", () => asType(PT.relro, PT.dynamic)],
  [
    "own",
    "a dynamic section mapped from elsewhere than it is read",
    "KL_ELF_DYNAMIC",
    () => patched(good(), programHeader(good(), PT.dynamic) + 8, 0, 0),
  ],
  ["own", "one dynamic entry twice", "KL_ELF_DYNAMIC", () => retagged(good(), 11, 10)],
  ["own", "names that lie outside of the file", "KL_ELF_DYNAMIC", () => retagged(good(), 5, 5, 1n << 30n)],
  [
    "own",
    "a flag hidden in the upper half of a number",
    "KL_ELF_SEGMENT",
    () => retagged(good(), 0x6ffffffb, 0x6ffffffb, (1n << 63n) + 8n),
  ],
  [
    "own",
    "memory of others made read-only",
    "KL_ELF_SEGMENT",
    () => patched(good(), programHeader(good(), PT.relro) + 18, 0x10),
  ],
  [
    "own",
    "overlapping segments",
    "KL_ELF_SEGMENT",
    () => patched(good(), programHeader(good(), PT.load, 1) + 16, 0, 0, 0),
  ],
  ["own", "a relocation that reaches past the symbols", "KL_ELF_DYNAMIC", farSymbol],
];

export const elfAttacks: readonly Attack[] = rows.map(([number, name, code, payload]) => ({
  number,
  name,
  area: "elf",
  refused: inspected(code),
  how: () => ({
    payload: payload(),
    // Promised on purpose too low where that is the attack.
    ...(code === "KL_ELF_LIBC" ? { config: (v) => (v.platform.libc.minimum = "2.17") } : {}),
  }),
}));

/** The first NEEDED name becomes one with a slash, of the same length. */
function slashed(): Buffer {
  const bytes = Buffer.from(good());
  const at = bytes.indexOf("libm.so.6");
  bytes.write("./evil.so", at);
  return bytes;
}

function newerLibc(): Buffer {
  return library(harmless.replaceAll("sqrtf", "expf"));
}

function farSymbol(): Buffer {
  const copy = Buffer.from(good());
  const at = Number(copy.readBigUInt64LE(dynamicEntry(copy, 7) + 8));
  const size = Number(copy.readBigUInt64LE(dynamicEntry(copy, 8) + 8));
  for (let r = at; r < at + size; r += 24) copy.writeUInt32LE(60_000, r + 12);
  return copy;
}
