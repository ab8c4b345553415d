import { fail } from "../format/index.ts";
import { readDynamic } from "./dynamic.ts";
import { Reader } from "./reader.ts";
import { readSymbols } from "./symbols.ts";

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
  readonly class: 64;
  readonly endianness: "little";
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
  /** DT_TEXTREL, DF_TEXTREL, or a relocation whose target is not in a writable segment. */
  readonly textRelocations: boolean;
  /** DT_FLAGS: 1 ORIGIN, 2 SYMBOLIC, 4 TEXTREL, 8 BIND_NOW, 16 STATIC_TLS */
  readonly flags: number;
  /** DT_FLAGS_1: 1 NOW, 2 GLOBAL, 8 NODELETE, 0x20 INITFIRST, ... */
  readonly flags1: number;
  /** DT_AUDIT, DT_DEPAUDIT, DT_FILTER, DT_AUXILIARY, DT_CONFIG, by name. */
  readonly hooks: readonly string[];
  /** Defined dynamic symbols of global, weak or unique binding that other objects can see, sorted. */
  readonly exports: readonly string[];
  /** Undefined dynamic symbols, sorted. */
  readonly imports: readonly string[];
  /** Versions asked of each library: `{"libc.so.6": ["GLIBC_2.2.5"]}`. */
  readonly versions: Readonly<Record<string, readonly string[]>>;
  /** Highest GLIBC version asked for, "2.17"; null where none is. */
  readonly libcFloor: string | null;
}

const PT_LOAD = 1;
const PT_INTERP = 3;
const PT_TLS = 7;
const PT_GNU_STACK = 0x6474e551;
const PF_X = 1;
const PF_W = 2;

/**
 * Reads a 64-bit little-endian ELF file of any machine and type; `checkSharedObject` judges it. Throws `KL_ELF_MAGIC`,
 * `_CLASS`, `_ENDIANNESS`, `_TRUNCATED`, `_SEGMENT`, `_DYNAMIC`, whatever the bytes.
 */
export function inspectElf(bytes: Uint8Array): ElfFacts {
  const file = new Reader(bytes);
  const magic = file.u32(0);
  if (magic !== 0x464c457f) fail("KL_ELF_MAGIC", "The file is not an ELF file.");
  if (file.u8(4) !== 2) fail("KL_ELF_CLASS", "The file is not a 64-bit ELF file.");
  if (file.u8(5) !== 1) fail("KL_ELF_ENDIANNESS", "The file is not a little-endian ELF file.");
  const segments = readSegments(file);
  checkSegments(segments, file.size);
  const dynamic = readDynamic(file, segments);
  const symbols = readSymbols(dynamic);
  const stack = segments.filter((s) => s.type === PT_GNU_STACK);
  return {
    class: 64,
    endianness: "little",
    machine: file.u16(18),
    type: file.u16(16),
    segments,
    executableStack: stack.length !== 1 || (stack[0]!.flags & PF_X) !== 0,
    writableAndExecutable: segments.some((s) => s.type === PT_LOAD && (s.flags & (PF_X | PF_W)) === (PF_X | PF_W)),
    interpreter: segments.some((s) => s.type === PT_INTERP),
    threadLocalStorage: segments.some((s) => s.type === PT_TLS),
    ...dynamic.facts,
    ...symbols,
  };
}

function readSegments(file: Reader): ElfSegment[] {
  file.range(0, 64, "header");
  const [offset, entrySize, count] = [file.u64(32), file.u16(54), file.u16(56)];
  if (entrySize !== 56)
    fail("KL_ELF_SEGMENT", `The ELF file's program headers are ${entrySize} bytes each instead of 56.`);
  // 0xffff would mean that the count stands in a section; glibc does not look there.
  if (count === 0 || count > 512) fail("KL_ELF_SEGMENT", `The ELF file has ${count} program headers.`);
  file.range(offset, count * entrySize, "program headers");
  return Array.from({ length: count }, (_, i) => {
    const at = offset + i * entrySize;
    return {
      type: file.u32(at),
      flags: file.u32(at + 4),
      offset: file.u64(at + 8),
      address: file.u64(at + 16),
      fileSize: file.u64(at + 32),
      memorySize: file.u64(at + 40),
    };
  });
}

function checkSegments(segments: readonly ElfSegment[], size: number): void {
  const loads = segments.filter((s) => s.type === PT_LOAD);
  if (loads.length === 0) fail("KL_ELF_SEGMENT", "The ELF file has nothing to load.");
  let end = 0;
  for (const s of loads) {
    // A page past the end of the file would end the process with SIGBUS when it is touched.
    if (s.offset + s.fileSize > size) fail("KL_ELF_TRUNCATED", "The ELF file ends before its segments do.");
    if (s.memorySize < s.fileSize)
      fail("KL_ELF_SEGMENT", "A segment of the ELF file is smaller in memory than in the file.");
    if (s.address % 4096 !== s.offset % 4096)
      fail("KL_ELF_SEGMENT", "A segment of the ELF file is not aligned to its pages.");
    // The loader maps whole pages: segments that share one would overwrite each other's rights or bytes.
    if (s.address < end) fail("KL_ELF_SEGMENT", "Segments of the ELF file overlap or are out of order.");
    end = pageEnd(s);
    if (end > 2 ** 40) fail("KL_ELF_SEGMENT", "The ELF file's segments are larger than any library.");
  }
  for (const s of segments) {
    if (s.type === PT_LOAD || s.type === PT_GNU_STACK || s.memorySize === 0) continue;
    // The loader reads or re-protects these where they would be mapped, without asking whether they are.
    const inside = loads.some((l) => s.address >= l.address && s.address + s.memorySize <= pageEnd(l));
    if (!inside) fail("KL_ELF_SEGMENT", `A segment of the ELF file (type ${s.type}) lies outside what is loaded.`);
    if (s.offset + s.fileSize > size) fail("KL_ELF_TRUNCATED", "The ELF file ends before its segments do.");
  }
}

const pageEnd = (s: ElfSegment) => Math.ceil((s.address + s.memorySize) / 4096) * 4096;
