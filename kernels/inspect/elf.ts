export interface ElfSegment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
}

/** What the dynamic loader would make of a file, read by program headers and PT_DYNAMIC as it reads them; never by sections. */
export interface ElfFacts {
  readonly class: 32 | 64;
  readonly endianness: "little" | "big";
  /** e_machine: 62 is x86-64 */
  readonly machine: number;
  /** e_type: 3 is a shared object */
  readonly type: number;
  readonly segments: readonly ElfSegment[];
  /** PT_GNU_STACK asks for an executable stack, or is missing (which means the same). */
  readonly executableStack: boolean;
  readonly writableAndExecutable: boolean;
  /** PT_INTERP: a program, or a library that can be run as one. */
  readonly interpreter: boolean;
  readonly threadLocalStorage: boolean;
  readonly soname: string | null;
  readonly needed: readonly string[];
  readonly rpath: string | null;
  readonly runpath: string | null;
  /** Code that runs on load or unload: DT_INIT, DT_FINI and their arrays, by name. */
  readonly initializers: readonly string[];
  readonly ifuncSymbols: readonly string[];
  readonly ifuncRelocations: number;
  readonly textRelocations: boolean;
  readonly flags1: number;
  /** DT_AUDIT, DT_DEPAUDIT, DT_FILTER, DT_AUXILIARY, DT_CONFIG, by name. */
  readonly hooks: readonly string[];
  /** Defined dynamic symbols of global or weak binding. */
  readonly exports: readonly string[];
  /** Undefined dynamic symbols. */
  readonly imports: readonly string[];
  /** Versions asked of each library: `{"libc.so.6": ["GLIBC_2.2.5"]}`. */
  readonly versions: Readonly<Record<string, readonly string[]>>;
  /** Highest GLIBC version asked for, "2.17"; null where none is. */
  readonly libcFloor: string | null;
}

/** Reads a 64-bit little-endian ELF file. Throws `KL_ELF_*`, whatever the bytes. */
export function inspectElf(_bytes: Uint8Array): ElfFacts {
  throw new Error("to come");
}
