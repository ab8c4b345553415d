import { fail } from "../format/index.ts";
import { DT, type Dynamic } from "./dynamic.ts";
import type { ElfFacts } from "./elf.ts";

const symbolSize = 24;
const STT_GNU_IFUNC = 10;
const STB_LOCAL = 0;
const maxSymbols = 1 << 16;

/** Dynamic symbols; their number comes from the hash tables, which is where the loader looks names up. */
export function readSymbols(d: Dynamic): Pick<ElfFacts, "exports" | "imports" | "ifuncSymbols"> {
  const table = d.get(DT.SYMTAB);
  if (table === undefined) return fail("KL_ELF_DYNAMIC", "The ELF file has no dynamic symbols.");
  if ((d.get(DT.SYMENT) ?? symbolSize) !== symbolSize)
    fail("KL_ELF_DYNAMIC", "The ELF file's symbols have an odd size.");
  const count = countSymbols(d);
  const start = d.locate(table, count * symbolSize, "symbol table");
  const [exports, imports, ifuncs]: [string[], string[], string[]] = [[], [], []];
  for (let i = 1; i < count; i++) {
    const at = start + i * symbolSize;
    const [info, other, section] = [d.file.u8(at + 4), d.file.u8(at + 5), d.file.u16(at + 6)];
    const name = d.name(d.file.u32(at));
    if ((info & 15) === STT_GNU_IFUNC) ifuncs.push(name);
    const local = info >> 4 === STB_LOCAL;
    const hidden = (other & 3) === 1 || (other & 3) === 2;
    if (section === 0) imports.push(name);
    else if (!local && !hidden) exports.push(name);
  }
  return { exports: exports.sort(), imports: imports.sort(), ifuncSymbols: ifuncs };
}

function countSymbols(d: Dynamic): number {
  const counts: number[] = [];
  const classic = d.get(DT.HASH);
  if (classic !== undefined) counts.push(d.file.u32(d.locate(classic, 8, "hash table") + 4));
  const gnu = d.get(DT.GNU_HASH);
  if (gnu !== undefined) counts.push(countGnu(d, gnu));
  if (counts.length === 0) fail("KL_ELF_DYNAMIC", "The ELF file has no hash table for its symbols.");
  // Symbols that only one of the tables, or only a relocation, reaches count too.
  const count = Math.max(...counts, d.highestSymbol + 1);
  if (count > maxSymbols) fail("KL_ELF_DYNAMIC", `The ELF file has more than ${maxSymbols} dynamic symbols.`);
  return count;
}

/** The highest symbol that a chain reaches, plus one; where all buckets are empty, undefined symbols may still precede. */
function countGnu(d: Dynamic, address: number): number {
  const at = d.locate(address, 16, "hash table");
  const [buckets, first, bloom] = [d.file.u32(at), d.file.u32(at + 4), d.file.u32(at + 8)];
  if (buckets > maxSymbols || bloom > maxSymbols || first > maxSymbols) {
    fail("KL_ELF_DYNAMIC", "The ELF file's hash table is larger than any library's.");
  }
  const bucketAddress = address + 16 + bloom * 8;
  const bucketsAt = d.locate(bucketAddress, buckets * 4, "hash table");
  const chains = bucketAddress + buckets * 4;
  let count = first;
  for (let b = 0; b < buckets; b++) {
    let symbol = d.file.u32(bucketsAt + b * 4);
    if (symbol === 0) continue;
    if (symbol < first) fail("KL_ELF_DYNAMIC", "The ELF file's hash table is malformed.");
    if (symbol < count) continue;
    for (; ; symbol++) {
      if (symbol > maxSymbols) fail("KL_ELF_DYNAMIC", "The ELF file's hash table is malformed.");
      const hash = d.file.u32(d.locate(chains + (symbol - first) * 4, 4, "hash table"));
      count = Math.max(count, symbol + 1);
      if ((hash & 1) === 1) break;
    }
  }
  return count;
}
