/** Cubins and fatbins made by hand, so that each field can be wrong on its own. */
import { zstdCompressSync } from "node:zlib";

export interface Crafted {
  abi?: readonly [number, number];
  flags?: number;
  type?: number;
  machine?: number;
  /** `-arch` in the tool's note; null for no note. */
  told?: string | null;
  compat?: Buffer;
  kernels?: readonly CraftedKernel[];
  extra?: readonly { name: string; type?: number; bytes: Buffer }[];
  symbols?: readonly string[];
}
export interface CraftedKernel {
  name: string;
  section?: string;
  registers?: number;
  shared?: number;
  info?: Buffer;
}

/** A record of format 4: length and payload. */
export const record = (id: number, ...words: number[]): Buffer => {
  const bytes = Buffer.alloc(4 + words.length * 4);
  bytes.set([4, id]);
  bytes.writeUInt16LE(words.length * 4, 2);
  words.forEach((w, i) => {
    bytes.writeUInt32LE(w >>> 0, 4 + i * 4);
  });
  return bytes;
};
export const param = (ordinal: number, offset: number, size: number): Buffer =>
  record(0x17, 0, ordinal | (offset << 16), size << 18);

export const sm90a = { abi: [0x41, 8], flags: 0x6005a04, compat: Buffer.from([2, 9, 1, 0]) } as const;
export const sm80 = { abi: [0x41, 8], flags: 0x6005004, compat: Buffer.alloc(0), told: "sm_80" } as const;
export const addKernel: CraftedKernel = {
  name: "add",
  registers: 20,
  shared: 1024 + 64,
  info: Buffer.concat([param(1, 8, 4), param(0, 0, 8), record(0x10, 128, 1, 1)]),
};

export function craftCubin(how: Crafted = {}): Buffer {
  const { abi = sm90a.abi, flags = sm90a.flags, kernels = [addKernel], compat = sm90a.compat } = how;
  const told = how.told === undefined ? "sm_90a" : how.told;
  const names = [...(how.symbols ?? []), ...kernels.map((k) => k.name)];
  const sections: { name: string; type: number; bytes: Buffer; size?: number }[] = [
    { name: "", type: 0, bytes: Buffer.alloc(0) },
    { name: ".shstrtab", type: 3, bytes: Buffer.alloc(0) },
    { name: ".strtab", type: 3, bytes: Buffer.from(`\0${names.join("\0")}\0`) },
    { name: ".symtab", type: 2, bytes: Buffer.alloc(24 * (names.length + 1)) },
    {
      name: ".nv.info",
      type: 0x70000000,
      bytes: Buffer.concat(
        kernels.map((k, i) =>
          k.registers === undefined ? Buffer.alloc(0) : record(0x2f, 1 + (how.symbols?.length ?? 0) + i, k.registers),
        ),
      ),
    },
    ...(compat.length === 0 ? [] : [{ name: ".nv.compat", type: 0x70000086, bytes: compat }]),
    ...(told === null
      ? []
      : [{ name: ".note.nv.tkinfo", type: 7, bytes: Buffer.from(`NVIDIA Corp\0ptxas\0-arch ${told} -m 64\0`) }]),
    ...(how.extra ?? []).map((e) => ({ name: e.name, type: e.type ?? 1, bytes: e.bytes })),
  ];
  const symtab = sections[3]!.bytes;
  let at = 1;
  names.forEach((name, i) => {
    const entry = 24 * (i + 1);
    symtab.writeUInt32LE(at, entry);
    at += Buffer.byteLength(name) + 1;
    const kernel = kernels[i - (how.symbols?.length ?? 0)];
    if (kernel === undefined || i < (how.symbols?.length ?? 0)) return;
    symtab.set([0x12, 0x10], entry + 4);
    symtab.writeUInt16LE(sections.length, entry + 6);
    sections.push({ name: kernel.section ?? `.text.${name}`, type: 1, bytes: Buffer.alloc(32) });
    if (kernel.info) sections.push({ name: `.nv.info.${name}`, type: 0x70000000, bytes: kernel.info });
    if (kernel.shared)
      sections.push({ name: `.nv.shared.${name}`, type: 8, bytes: Buffer.alloc(0), size: kernel.shared });
  });
  sections[1]!.bytes = Buffer.from(`${sections.map((s) => s.name).join("\0")}\0`);
  const header = Buffer.alloc(64);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, abi[0], abi[1]]);
  header.writeUInt16LE(how.type ?? 2, 16);
  header.writeUInt16LE(how.machine ?? 190, 18);
  header.writeUInt32LE(flags, 48);
  header.writeUInt16LE(64, 52);
  header.writeUInt16LE(56, 54);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(sections.length, 60);
  header.writeUInt16LE(1, 62);
  const table = Buffer.alloc(64 * sections.length);
  const bodies: Buffer[] = [];
  let [offset, name] = [64, 0];
  sections.forEach((s, i) => {
    table.writeUInt32LE(name, i * 64);
    name += s.name.length + 1;
    table.writeUInt32LE(s.type, i * 64 + 4);
    table.writeBigUInt64LE(BigInt(offset), i * 64 + 24);
    table.writeBigUInt64LE(BigInt(s.size ?? s.bytes.length), i * 64 + 32);
    bodies.push(s.bytes);
    offset += s.bytes.length;
  });
  header.writeBigUInt64LE(BigInt(offset), 40);
  return Buffer.concat([header, ...bodies, table]);
}

export interface CraftedEntry {
  kind?: number;
  version?: number;
  architecture?: number;
  flags?: bigint;
  payload: Buffer;
  /** Packs the payload and says so. */
  zstd?: boolean;
  whole?: number;
  header?: number;
  size?: number;
}

export function craftFatbin(entries: readonly CraftedEntry[], how: { magic?: number; body?: number } = {}): Buffer {
  const parts = entries.map((e) => {
    const packed = e.zstd ? zstdCompressSync(e.payload) : e.payload;
    const payload = Buffer.concat([packed, Buffer.alloc((8 - (packed.length % 8)) % 8)]);
    const header = Buffer.alloc(64);
    header.writeUInt16LE(e.kind ?? 2, 0);
    header.writeUInt16LE(e.version ?? 0x0101, 2);
    header.writeUInt32LE(e.header ?? 64, 4);
    header.writeBigUInt64LE(BigInt(e.size ?? payload.length), 8);
    header.writeUInt32LE(e.zstd ? packed.length : 0, 16);
    header.writeUInt32LE(e.architecture ?? 90, 28);
    header.writeBigUInt64LE(e.flags ?? (e.zstd ? 0x108011n : 0x100011n), 40);
    header.writeBigUInt64LE(BigInt(e.whole ?? (e.zstd ? e.payload.length : 0)), 56);
    return Buffer.concat([header, payload]);
  });
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(16);
  head.writeUInt32LE(how.magic ?? 0xba55ed50, 0);
  head.writeUInt16LE(1, 4);
  head.writeUInt16LE(16, 6);
  head.writeBigUInt64LE(BigInt(how.body ?? body.length), 8);
  return Buffer.concat([head, body]);
}
