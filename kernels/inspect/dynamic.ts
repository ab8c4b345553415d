import { fail } from "../format/index.ts";
import type { ElfFacts, ElfSegment } from "./elf.ts";
import type { Reader } from "./reader.ts";

const DT = {
  NULL: 0,
  NEEDED: 1,
  PLTRELSZ: 2,
  HASH: 4,
  STRTAB: 5,
  SYMTAB: 6,
  RELA: 7,
  RELASZ: 8,
  RELAENT: 9,
  STRSZ: 10,
  SYMENT: 11,
  INIT: 12,
  FINI: 13,
  SONAME: 14,
  RPATH: 15,
  REL: 17,
  PLTREL: 20,
  TEXTREL: 22,
  JMPREL: 23,
  INIT_ARRAY: 25,
  FINI_ARRAY: 26,
  RUNPATH: 29,
  FLAGS: 30,
  PREINIT_ARRAY: 32,
  RELRSZ: 35,
  RELR: 36,
  GNU_HASH: 0x6ffffef5,
  CONFIG: 0x6ffffefa,
  DEPAUDIT: 0x6ffffefb,
  AUDIT: 0x6ffffefc,
  FLAGS_1: 0x6ffffffb,
  VERNEED: 0x6ffffffe,
  VERNEEDNUM: 0x6fffffff,
  AUXILIARY: 0x7ffffffd,
  FILTER: 0x7fffffff,
} as const;
const initializers = {
  INIT: DT.INIT,
  FINI: DT.FINI,
  INIT_ARRAY: DT.INIT_ARRAY,
  FINI_ARRAY: DT.FINI_ARRAY,
  PREINIT_ARRAY: DT.PREINIT_ARRAY,
};
const hooks = { AUDIT: DT.AUDIT, DEPAUDIT: DT.DEPAUDIT, FILTER: DT.FILTER, AUXILIARY: DT.AUXILIARY, CONFIG: DT.CONFIG };
const DF_TEXTREL = 4;
const R_X86_64_IRELATIVE = 37;
const relaSize = 24;

/** The dynamic section, with reads by the addresses that the loader would use. */
export interface Dynamic {
  readonly file: Reader;
  /** Last value of a tag that must occur once at most; undefined where it does not. */
  get(tag: number): number | undefined;
  /** File offset of `length` bytes at an address, all of them backed by the file. */
  locate(address: number, length: number, what: string): number;
  /** A name of the dynamic string table. */
  name(offset: number): string;
  /** Highest symbol that a relocation names: the loader takes it whether or not a hash table reaches it. */
  readonly highestSymbol: number;
  readonly facts: Pick<
    ElfFacts,
    | "soname"
    | "needed"
    | "rpath"
    | "runpath"
    | "initializers"
    | "ifuncRelocations"
    | "textRelocations"
    | "flags"
    | "flags1"
    | "hooks"
    | "versions"
    | "libcFloor"
  >;
}

export function readDynamic(file: Reader, segments: readonly ElfSegment[]): Dynamic {
  const loads = segments.filter((s) => s.type === 1);
  const locate = (address: number, length: number, what: string): number => {
    const s = loads.find((l) => address >= l.address && address + length <= l.address + l.fileSize);
    return s === undefined
      ? fail("KL_ELF_DYNAMIC", `The ELF file's ${what} lies outside its segments.`)
      : address - s.address + s.offset;
  };
  const tags = readTags(file, segments, locate);
  const get = (tag: number) => tags.get(tag)?.at(-1);
  const need = (tag: number, what: string) => get(tag) ?? fail("KL_ELF_DYNAMIC", `The ELF file has no ${what}.`);

  const stringBytes = need(DT.STRSZ, "size of its string table");
  const strings = locate(need(DT.STRTAB, "string table"), stringBytes, "string table");
  const name = (offset: number): string => {
    if (offset >= stringBytes) fail("KL_ELF_DYNAMIC", "A name of the ELF file lies outside its string table.");
    return file.text(strings + offset, strings + stringBytes);
  };
  const named = (tag: number) => (tags.get(tag) ?? []).map(name);
  const present = (table: Readonly<Record<string, number>>) =>
    Object.entries(table)
      .filter(([, tag]) => tags.has(tag))
      .map(([label]) => label);
  const flags = get(DT.FLAGS) ?? 0;
  const relocations = readRelocations(file, loads, get, locate);
  const versions = readVersions({ file, get, locate, name });
  return {
    file,
    get,
    locate,
    name,
    highestSymbol: relocations.highestSymbol,
    facts: {
      soname: named(DT.SONAME).at(-1) ?? null,
      needed: named(DT.NEEDED),
      rpath: named(DT.RPATH).at(-1) ?? null,
      runpath: named(DT.RUNPATH).at(-1) ?? null,
      initializers: present(initializers),
      ifuncRelocations: relocations.indirect,
      textRelocations: tags.has(DT.TEXTREL) || (flags & DF_TEXTREL) !== 0 || relocations.inText,
      flags,
      flags1: get(DT.FLAGS_1) ?? 0,
      hooks: present(hooks),
      versions,
      libcFloor: highestGlibc(Object.values(versions).flat()),
    },
  };
}

function readTags(file: Reader, segments: readonly ElfSegment[], locate: Dynamic["locate"]): Map<number, number[]> {
  const dynamic = segments.filter((s) => s.type === 2);
  if (dynamic.length !== 1)
    return fail("KL_ELF_DYNAMIC", `The ELF file has ${dynamic.length} dynamic sections instead of one.`);
  const { address, offset, fileSize } = dynamic[0]!;
  // The loader reads it where it is mapped; tools read it by file offset. They must be the same bytes.
  if (locate(address, fileSize, "dynamic section") !== offset) {
    fail("KL_ELF_DYNAMIC", "The ELF file's dynamic section is mapped from elsewhere than its header says.");
  }
  const tags = new Map<number, number[]>();
  for (let at = offset; at + 16 <= offset + fileSize; at += 16) {
    const tag = Number(file.bits64(at));
    if (tag === DT.NULL) return checkOnce(tags);
    const value = file.u64(at + 8);
    tags.set(tag, [...(tags.get(tag) ?? []), value]);
    if (tags.size > 256 || (tags.get(tag)?.length ?? 0) > 256)
      fail("KL_ELF_DYNAMIC", "The ELF file's dynamic section is too long.");
  }
  return fail("KL_ELF_DYNAMIC", "The ELF file's dynamic section has no end.");
}

/** Readers differ on which of two entries counts, so no entry may stand twice; libraries, and their filters, may. */
function checkOnce(tags: Map<number, number[]>): Map<number, number[]> {
  const repeatable: number[] = [DT.NEEDED, DT.FILTER, DT.AUXILIARY];
  for (const [tag, values] of tags) {
    if (values.length > 1 && !repeatable.includes(tag)) {
      fail("KL_ELF_DYNAMIC", `The ELF file's dynamic section has entry 0x${tag.toString(16)} twice.`);
    }
  }
  return tags;
}

function readRelocations(
  file: Reader,
  loads: readonly ElfSegment[],
  get: Dynamic["get"],
  locate: Dynamic["locate"],
): { indirect: number; inText: boolean; highestSymbol: number } {
  if (get(DT.REL) !== undefined)
    fail("KL_ELF_DYNAMIC", "The ELF file has relocations of a kind that x86-64 does not use.");
  if ((get(DT.RELAENT) ?? relaSize) !== relaSize || (get(DT.PLTREL) ?? DT.RELA) !== DT.RELA) {
    fail("KL_ELF_DYNAMIC", "The ELF file has relocations of a size or kind that x86-64 does not use.");
  }
  const writable = loads.filter((s) => (s.flags & 2) !== 0);
  const result = { indirect: 0, inText: false, highestSymbol: 0 };
  const target = (address: number) => {
    if (!writable.some((s) => address >= s.address && address + 8 <= s.address + s.memorySize)) result.inText = true;
  };
  for (const [start, bytes] of [
    [get(DT.RELA), get(DT.RELASZ)],
    [get(DT.JMPREL), get(DT.PLTRELSZ)],
  ]) {
    if (start === undefined && bytes === undefined) continue;
    if (start === undefined || bytes === undefined || bytes % relaSize !== 0) {
      return fail("KL_ELF_DYNAMIC", "The ELF file's relocations are malformed.");
    }
    const table = locate(start, bytes, "relocations");
    for (let at = table; at < table + bytes; at += relaSize) {
      target(Number(file.bits64(at)));
      if (file.u32(at + 8) === R_X86_64_IRELATIVE) result.indirect++;
      result.highestSymbol = Math.max(result.highestSymbol, file.u32(at + 12));
    }
  }
  readPacked(file, get, locate, target);
  return result;
}

/** DT_RELR: an even word is an address, an odd one a bitmap of the 63 words that follow the last address. */
function readPacked(
  file: Reader,
  get: Dynamic["get"],
  locate: Dynamic["locate"],
  target: (address: number) => void,
): void {
  const [start, bytes] = [get(DT.RELR), get(DT.RELRSZ)];
  if (start === undefined) return;
  if (bytes === undefined || bytes % 8 !== 0)
    fail("KL_ELF_DYNAMIC", "The ELF file's packed relocations are malformed.");
  const table = locate(start, bytes, "relocations");
  let next = 0;
  for (let at = table; at < table + bytes; at += 8) {
    const word = file.bits64(at);
    if ((word & 1n) === 0n) {
      target(Number(word));
      next = Number(word) + 8;
      continue;
    }
    for (let bit = 0; bit < 63; bit++) if (((word >> BigInt(bit + 1)) & 1n) === 1n) target(next + bit * 8);
    next += 63 * 8;
  }
}

function readVersions(d: Pick<Dynamic, "file" | "get" | "locate" | "name">): Record<string, string[]> {
  const versions: Record<string, string[]> = {};
  let address = d.get(DT.VERNEED);
  const count = d.get(DT.VERNEEDNUM) ?? 0;
  if (address === undefined) return versions;
  if (count > 256) fail("KL_ELF_DYNAMIC", "The ELF file asks versions of too many libraries.");
  for (let i = 0; i < count; i++) {
    const at = d.locate(address, 16, "version table");
    const library = d.name(d.file.u32(at + 4));
    const found = Object.hasOwn(versions, library) ? versions[library]! : [];
    let entry: number = address + d.file.u32(at + 8);
    for (let k = d.file.u16(at + 2); k > 0; k--) {
      const aux = d.locate(entry, 16, "version table");
      found.push(d.name(d.file.u32(aux + 8)));
      if (found.length > 1024) fail("KL_ELF_DYNAMIC", "The ELF file asks for too many versions.");
      entry += d.file.u32(aux + 12);
    }
    Object.defineProperty(versions, library, { value: found.sort(), enumerable: true, configurable: true });
    const next = d.file.u32(at + 12);
    if (next === 0) break;
    address += next;
  }
  return versions;
}

function highestGlibc(versions: readonly string[]): string | null {
  let best: [number, number] | undefined;
  for (const version of versions) {
    const match = /^GLIBC_([0-9]{1,3})\.([0-9]{1,3})(?:\.[0-9]+)?$/.exec(version);
    if (match === null) continue;
    const pair: [number, number] = [Number(match[1]), Number(match[2])];
    if (best === undefined || pair[0] > best[0] || (pair[0] === best[0] && pair[1] > best[1])) best = pair;
  }
  return best === undefined ? null : best.join(".");
}

export { DT };
