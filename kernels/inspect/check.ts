import type { ElfFacts } from "./elf.ts";

export interface ElfCheck {
  /** Sonames that may be NEEDED: `["libc.so.6", "libm.so.6"]`. */
  readonly allowedLibraries: readonly string[];
  /** glibc of the machine, or the floor that variant.json declares: the file may not ask for more. */
  readonly libcMaximum?: string;
  /** Exactly the symbols that the file exports. */
  readonly exports: readonly string[];
}

/** Refuses a shared object that could do anything on load but be mapped. Throws `KL_ELF_*`. */
export function checkSharedObject(_facts: ElfFacts, _expected: ElfCheck): void {
  throw new Error("to come");
}
