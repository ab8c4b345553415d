import { fail, shown } from "../format/index.ts";
import type { ElfFacts } from "./elf.ts";

export interface ElfCheck {
  /** Sonames that may be NEEDED: `["libc.so.6", "libm.so.6"]`. */
  readonly allowedLibraries: readonly string[];
  /** glibc of the machine, or the floor that variant.json declares: the file may not ask for more. */
  readonly libcMaximum?: string;
  /** Exactly the symbols that the file exports. */
  readonly exports: readonly string[];
}

const EM_X86_64 = 62;
const ET_DYN = 3;
/** DF_ORIGIN: the loader expands $ORIGIN. */
const refusedFlags = 1;
/** DF_1: GROUP, GLOBAL, NODELETE, LOADFLTR, INITFIRST, ORIGIN, INTERPOSE, NODEFLIB, CONFALT, ENDFILTEE, GLOBAUDIT, PIE. */
const refusedFlags1 = 0x4 | 0x2 | 0x8 | 0x10 | 0x20 | 0x80 | 0x400 | 0x800 | 0x2000 | 0x4000 | 0x1000000 | 0x8000000;

/** Refuses a shared object that could do anything on load but be mapped. Throws `KL_ELF_*`, one code per rule. */
export function checkSharedObject(facts: ElfFacts, expected: ElfCheck): void {
  if (facts.type !== ET_DYN) fail("KL_ELF_TYPE", "The ELF file is not a shared object.");
  if (facts.machine !== EM_X86_64)
    fail("KL_ELF_MACHINE", `The ELF file is for machine ${facts.machine}, not for x86-64.`);
  if (facts.interpreter) fail("KL_ELF_INTERPRETER", "The library names a program interpreter.");
  if (facts.executableStack) fail("KL_ELF_EXECUTABLE_STACK", "The library asks for an executable stack.");
  if (facts.writableAndExecutable) {
    fail("KL_ELF_WRITABLE_CODE", "The library has a segment that is both writable and executable.");
  }
  if (facts.textRelocations) fail("KL_ELF_TEXT_RELOCATION", "The library has relocations outside its writable data.");
  for (const path of [facts.rpath, facts.runpath]) {
    if (path !== null) fail("KL_ELF_RUNPATH", `The library searches for others in ${shown(path)}.`);
  }
  for (const hook of facts.hooks) fail("KL_ELF_HOOK", `The library has a ${hook} entry, which brings in other code.`);
  if ((facts.flags & refusedFlags) !== 0 || (facts.flags1 & refusedFlags1) !== 0) {
    fail("KL_ELF_FLAGS", "The library asks the loader for special treatment.", {
      details: { flags: facts.flags, flags1: facts.flags1 },
    });
  }
  for (const name of facts.initializers) {
    fail("KL_ELF_INITIALIZER", `The library has code that runs on load or unload (${name}).`, {
      remedy: "Link without start files and without constructors or objects with static initialisers.",
    });
  }
  if (facts.ifuncSymbols.length > 0 || facts.ifuncRelocations > 0) {
    fail("KL_ELF_IFUNC", "The library has functions whose address is found by running code on load.");
  }
  for (const library of facts.needed) {
    if (!expected.allowedLibraries.includes(library)) {
      fail("KL_ELF_LIBRARY", `The library needs ${shown(library)}, which is not allowed.`, { details: { library } });
    }
  }
  const floor = facts.libcFloor;
  if (expected.libcMaximum !== undefined && floor !== null && isNewer(floor, expected.libcMaximum)) {
    fail("KL_ELF_LIBC", `The library needs glibc ${floor}; at most ${expected.libcMaximum} may be asked for.`, {
      details: { floor, maximum: expected.libcMaximum },
    });
  }
  for (const symbol of expected.exports) {
    if (!facts.exports.includes(symbol)) fail("KL_ELF_SYMBOL_MISSING", `The library does not export ${symbol}.`);
  }
  const extra = facts.exports.find((symbol) => !expected.exports.includes(symbol));
  if (extra !== undefined) {
    fail("KL_ELF_EXPORTS", `The library exports ${shown(extra)}, which it must not.`, {
      remedy: "Compile with -fvisibility=hidden and mark kl_get_api alone as visible.",
    });
  }
}

/** Compares versions such as 2.9 and 2.17 by their numbers. */
function isNewer(a: string, b: string): boolean {
  const [x, y] = [a, b].map((v) => v.split(".").map(Number)) as [number[], number[]];
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
