import { fail, shown } from "../format/index.ts";
import { Reader } from "./reader.ts";

/** One kernel of a cubin, as the driver will see it. */
export interface CubinKernel {
  readonly name: string;
  /** Registers of a thread. */
  readonly registers: number;
  /** Shared memory that every block has besides the dynamic one, bytes. */
  readonly sharedBytes: number;
  /** Parameters in order: offset and size in the parameter block, bytes. */
  readonly params: readonly { readonly offset: number; readonly size: number }[];
  /** Threads of a block that a launch must have (`.reqntid`); null where any number will do. */
  readonly requiredThreads: readonly [number, number, number] | null;
  /** Threads of a block that a launch may have (`__launch_bounds__`); null where it is not said. */
  readonly maximumThreads: readonly [number, number, number] | null;
}

export interface CubinFacts {
  /** The architecture that the code really is for: `sm_90a`. */
  readonly architecture: string;
  readonly kernels: readonly CubinKernel[];
  /** Symbols that a compiler named after the place of the source: they differ from folder to folder. */
  readonly placeNames: readonly string[];
  /** Bytes from the first of the header to the last of what it names. */
  readonly size: number;
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

export const EM_CUDA = 190;
const SHT_NOBITS = 8;
const STT_FUNC = 2;
const STO_CUDA_ENTRY = 0x10;
/** From sm_90 on the driver keeps the first KiB of a block's shared memory. */
const reservedShared = 1024;
const attribute = { reqntid: 0x10, maxThreads: 0x05, param: 0x17, registers: 0x2f } as const;
const words = {
  noun: "cubin",
  truncated: "KL_CUBIN_TRUNCATED",
  number: "KL_CUBIN_SECTION",
  text: "KL_CUBIN_SECTION",
} as const;

/**
 * Reads a cubin: an ELF file of machine 190 in one of the two layouts that CUDA 12 and 13 write. It reads sections, as the
 * driver does. Throws `KL_CUBIN_*`, whatever the bytes; bytes after the cubin are allowed (`size` tells its end).
 */
export function inspectCubin(bytes: Uint8Array): CubinFacts {
  const file = new Reader(bytes, words);
  if (!isCubin(bytes, 0)) fail("KL_CUBIN_MAGIC", "The file is not a cubin.");
  file.range(0, 64, "header");
  if (file.u16(16) !== 2) fail("KL_CUBIN_MAGIC", "The cubin is not linked.", { remedy: "Compile with -cubin." });
  const sections = readSections(file);
  const only = (name: string): Section | undefined => sections.find((s) => s.name === name);
  const symbols = readSymbols(file, sections);
  const architecture = readArchitecture(file, only);
  const reserved = Number(/[0-9]+/.exec(architecture)![0]) >= 90 ? reservedShared : 0;
  const registers = new Map<string, number>();
  for (const a of attributes(file, only(".nv.info"))) {
    if (a.id !== attribute.registers) continue;
    if (a.size !== 8) fail("KL_CUBIN_ENTRY", "A register count of the cubin is malformed.");
    registers.set(symbols[file.u32(a.at)]?.name ?? "", file.u32(a.at + 4));
  }
  const kernels = symbols.filter((s) => s.entry).map((s) => readKernel(file, s, only, registers.get(s.name), reserved));
  const names = kernels.map((k) => k.name).sort();
  const twice = names.find((name, i) => name === names[i + 1]);
  if (twice !== undefined) fail("KL_CUBIN_ENTRY", `The cubin has the kernel ${shown(twice)} twice.`);
  const ends = sections.map((s) => (s.type === SHT_NOBITS ? 0 : s.offset + s.size));
  const tables = [file.u64(40) + 64 * sections.length, file.u64(32) + 56 * file.u16(56)];
  return {
    architecture,
    kernels: kernels.sort((a, b) => (a.name < b.name ? -1 : 1)),
    placeNames: symbols.map((s) => s.name).filter((name) => /_GLOBAL__N__|_INTERNAL_[0-9a-f]{8}_/.test(name)),
    size: [...ends, ...tables].reduce((a, b) => Math.max(a, b)),
  };
}

/** Whether a little-endian 64-bit ELF file of machine 190 begins here. */
export function isCubin(bytes: Uint8Array, at: number): boolean {
  const b = (i: number) => bytes[at + i];
  const magic = b(0) === 0x7f && b(1) === 0x45 && b(2) === 0x4c && b(3) === 0x46;
  return magic && b(4) === 2 && b(5) === 1 && b(18) === EM_CUDA && b(19) === 0;
}

function readSections(file: Reader): Section[] {
  const [offset, entrySize, count, names] = [file.u64(40), file.u16(58), file.u16(60), file.u16(62)];
  if (entrySize !== 64 || count < 2 || count > 16_384 || names >= count)
    fail("KL_CUBIN_SECTION", "The cubin's section table is malformed.");
  file.range(offset, count * 64, "section table");
  file.range(file.u64(32), file.u16(56) * 56, "program headers");
  const table = offset + names * 64;
  const [nameAt, nameEnd] = [file.u64(table + 24), file.u64(table + 24) + file.u64(table + 32)];
  const seen = new Set<string>();
  return Array.from({ length: count }, (_, i) => {
    const at = offset + i * 64;
    const nameOffset = nameAt + file.u32(at);
    if (nameOffset >= nameEnd) fail("KL_CUBIN_SECTION", "A section of the cubin has its name elsewhere.");
    const section = {
      name: file.text(nameOffset, nameEnd),
      type: file.u32(at + 4),
      offset: file.u64(at + 24),
      size: file.u64(at + 32),
    };
    if (section.type !== SHT_NOBITS) file.range(section.offset, section.size, "sections");
    if (seen.has(section.name)) fail("KL_CUBIN_SECTION", `The cubin has the section ${shown(section.name)} twice.`);
    seen.add(section.name);
    return section;
  });
}

interface CubinSymbol {
  readonly name: string;
  readonly entry: boolean;
  readonly section: string;
}

function readSymbols(file: Reader, sections: readonly Section[]): CubinSymbol[] {
  const table = sections.find((s) => s.name === ".symtab");
  const strings = sections.find((s) => s.name === ".strtab");
  if (table === undefined || strings === undefined || table.type === SHT_NOBITS || strings.type === SHT_NOBITS)
    return fail("KL_CUBIN_SECTION", "The cubin has no symbols.");
  if (table.size % 24 !== 0 || table.size > 24 << 16)
    fail("KL_CUBIN_SECTION", "The cubin's symbol table is malformed.");
  return Array.from({ length: table.size / 24 }, (_, i) => {
    const at = table.offset + i * 24;
    const name = file.u32(at);
    if (name >= strings.size) fail("KL_CUBIN_SECTION", "A symbol of the cubin has its name elsewhere.");
    const [info, other, section] = [file.u8(at + 4), file.u8(at + 5), file.u16(at + 6)];
    return {
      name: file.text(strings.offset + name, strings.offset + strings.size),
      entry: (info & 15) === STT_FUNC && (other & STO_CUDA_ENTRY) !== 0 && section !== 0,
      section: sections[section]?.name ?? "",
    };
  });
}

function readArchitecture(file: Reader, only: (name: string) => Section | undefined): string {
  const [abi, version, flags] = [file.u8(7), file.u8(8), file.u32(48)];
  const told = toldArchitecture(file, only(".note.nv.tkinfo"));
  const refuse = () => fail("KL_CUBIN_FLAGS", `The cubin has unknown flags (0x${flags.toString(16)}).`);
  let sm: number;
  let accelerated: boolean;
  if (abi === 0x33 && version === 7) {
    if (flags >>> 24 !== 0 || ((flags >>> 8) & 0xff & ~0x0d) !== 0) return refuse();
    sm = flags & 0xff;
    accelerated = (flags & 0x800) !== 0;
  } else if (abi === 0x41 && version === 8) {
    const tool = flags >>> 24;
    if ((tool !== 6 && tool !== 9) || ((flags >>> 16) & 0xff) !== 0 || (flags & 0xff & ~0x0e) !== 0) return refuse();
    sm = (flags >>> 8) & 0xff;
    accelerated = (flags & 0x8) !== 0 || marksAcceleration(file, only(".nv.compat"));
  } else {
    return fail("KL_CUBIN_ARCHITECTURE", `The cubin has an unknown layout (ABI 0x${abi.toString(16)}.${version}).`);
  }
  const plain = `sm_${sm}`;
  if (sm < 50) fail("KL_CUBIN_ARCHITECTURE", `The cubin is for ${plain}, which no GPU of today is.`);
  // A family's mark stands nowhere but in the note on how the compiler was called.
  const found = accelerated ? `${plain}a` : told === `${plain}f` ? told : plain;
  if (told !== null && told !== found) {
    fail("KL_CUBIN_ARCHITECTURE", `The cubin's marks say ${found} and its compiler's note says ${shown(told)}.`);
  }
  return found;
}

/** Attribute 9 of `.nv.compat`: needs an accelerated ("a") target. */
function marksAcceleration(file: Reader, section: Section | undefined): boolean {
  return attributes(file, section).some((a) => a.id === 9 && a.size === 0 && (a.value & 0xff) === 1);
}

/** The `-arch` that the note of the tool names; null where there is no such note. */
function toldArchitecture(file: Reader, section: Section | undefined): string | null {
  if (section === undefined || section.type === SHT_NOBITS || section.size > 1 << 16) return null;
  const text = Buffer.from(file.bytes(section.offset, section.size)).toString("latin1");
  return /-arch[ =](sm_[0-9]{2,3}[af]?)(?![0-9a-z])/.exec(text)?.[1] ?? null;
}

function readKernel(
  file: Reader,
  symbol: CubinSymbol,
  only: (name: string) => Section | undefined,
  registers: number | undefined,
  reserved: number,
): CubinKernel {
  const { name } = symbol;
  const refuse = (what: string) => fail("KL_CUBIN_ENTRY", `The cubin's kernel ${shown(name)} ${what}.`);
  if (symbol.section !== `.text.${name}`) refuse("has its code elsewhere");
  if (registers === undefined || registers > 255) return refuse("does not say how many registers it takes");
  const params = new Map<number, { offset: number; size: number }>();
  const threads: Record<"required" | "maximum", [number, number, number] | null> = { required: null, maximum: null };
  const info = attributes(file, only(`.nv.info.${name}`));
  for (const { id, at, size } of info) {
    if (id === attribute.param) {
      if (size !== 12) refuse("has a malformed parameter");
      const ordinal = file.u16(at + 4);
      if (params.has(ordinal) || ordinal > 255) refuse("has a malformed parameter");
      params.set(ordinal, { offset: file.u16(at + 6), size: file.u32(at + 8) >>> 18 });
    } else if (id === attribute.reqntid || id === attribute.maxThreads) {
      if (size !== 12) refuse("has a malformed number of threads");
      threads[id === attribute.reqntid ? "required" : "maximum"] = [file.u32(at), file.u32(at + 4), file.u32(at + 8)];
    }
  }
  const list = [...params].sort(([a], [b]) => a - b);
  if (list.some(([ordinal], i) => ordinal !== i)) refuse("lacks a parameter");
  const shared = only(`.nv.shared.${name}`)?.size ?? 0;
  return {
    name,
    registers,
    sharedBytes: Math.max(0, shared - reserved),
    params: list.map(([, p]) => p),
    requiredThreads: threads.required,
    maximumThreads: threads.maximum,
  };
}

/** Records of `.nv.info` and `.nv.compat`: formats 1 to 3 are 4 bytes in all, format 4 has a length and a payload. */
function attributes(
  file: Reader,
  section: Section | undefined,
): { id: number; value: number; at: number; size: number }[] {
  if (section === undefined || section.type === SHT_NOBITS) return [];
  const found = [];
  const end = section.offset + section.size;
  for (let at = section.offset; at < end; ) {
    if (at + 4 > end) fail("KL_CUBIN_SECTION", "Attributes of the cubin are malformed.");
    const [format, id, value] = [file.u8(at), file.u8(at + 1), file.u16(at + 2)];
    if (format < 1 || format > 4) fail("KL_CUBIN_SECTION", "Attributes of the cubin are malformed.");
    const size = format === 4 ? value : 0;
    if (at + 4 + size > end) fail("KL_CUBIN_SECTION", "Attributes of the cubin are malformed.");
    found.push({ id, value, at: at + 4, size });
    if (found.length > 1 << 16) fail("KL_CUBIN_SECTION", "The cubin has too many attributes.");
    at += 4 + size;
  }
  return found;
}
