import { zstdDecompressSync } from "node:zlib";
import { fail, shown } from "../format/index.ts";
import { type CubinFacts, inspectCubin } from "./cubin.ts";
import { Reader } from "./reader.ts";

export type FatbinEntry =
  | { readonly kind: "elf"; readonly architecture: string; readonly cubin: CubinFacts }
  /** Text that a driver compiles. `architecture` is its `.target`. */
  | {
      readonly kind: "ptx";
      readonly architecture: string;
      readonly ptx: PtxFacts;
      /** Of names that a compiler makes after the place of the source, the mark that some carry. */
      readonly placeNames: readonly string[];
    };

export interface PtxFacts {
  /** Its `.target`: "sm_90". */
  readonly target: string;
  /** Of the language: "9.0". */
  readonly version: string;
}

export interface FatbinFacts {
  readonly entries: readonly FatbinEntry[];
  /** Bytes of this fatbin, its header included. */
  readonly size: number;
}

export const fatbinMagic = 0xba55ed50;
const headerBytes = 16;
const maxEntries = 64;
const maxUnpacked = 256 << 20;
const flag = { zstd: 0x8000n, accelerated: 0x100000n, family: 0x200000n };
/** 64 bits and Linux, the three above, and a copy of `.nv.compat` in a longer header. */
const knownFlags = 0x11n | flag.zstd | flag.accelerated | flag.family | 0x1000000n;
const words = {
  noun: "fatbin",
  truncated: "KL_FATBIN_TRUNCATED",
  number: "KL_FATBIN_ENTRY",
  text: "KL_FATBIN_ENTRY",
} as const;

/** Whether the 16 bytes here are a fatbin's header. */
export function isFatbin(bytes: Uint8Array, at: number): boolean {
  if (at + headerBytes > bytes.byteLength) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, headerBytes);
  return view.getUint32(0, true) === fatbinMagic && view.getUint16(4, true) === 1 && view.getUint16(6, true) === 16;
}

/**
 * Reads the fatbin at the start of some bytes; others may follow it. Cubins in it are read themselves, and their real
 * architecture must be the one that the entry names. Throws `KL_FATBIN_*`, `KL_CUBIN_*`, whatever the bytes.
 */
export function inspectFatbin(bytes: Uint8Array): FatbinFacts {
  const file = new Reader(bytes, words);
  if (!isFatbin(bytes, 0)) fail("KL_FATBIN_MAGIC", "The file is not a fatbin.");
  const end = headerBytes + file.u64(8);
  file.range(0, end, "body");
  const entries: FatbinEntry[] = [];
  let unpacked = 0;
  for (let at = headerBytes; at < end; ) {
    if (at + 64 > end) fail("KL_FATBIN_TRUNCATED", "The fatbin ends inside the header of an entry.");
    const header = file.u32(at + 4);
    const payload = file.u64(at + 8);
    if (header < 64 || header > 4096 || header % 8 !== 0 || at + header + payload > end)
      fail("KL_FATBIN_ENTRY", "An entry of the fatbin is longer than the fatbin.");
    if (payload === 0 || entries.length >= maxEntries)
      fail("KL_FATBIN_ENTRY", "The fatbin has empty or too many entries.");
    const content = readContent(file, at, header, payload);
    unpacked += content.byteLength;
    if (unpacked > maxUnpacked) fail("KL_FATBIN_ENTRY", "The fatbin unpacks to more than 256 MiB.");
    entries.push(readEntry(file, at, content));
    at += header + payload;
  }
  if (entries.length === 0) fail("KL_FATBIN_ENTRY", "The fatbin is empty.");
  return { entries, size: end };
}

function readContent(file: Reader, at: number, header: number, payload: number): Uint8Array {
  const flags = file.bits64(at + 40);
  if ((flags & ~knownFlags) !== 0n || (flags & 0x11n) !== 0x11n)
    fail("KL_FATBIN_FLAGS", `An entry of the fatbin has unknown flags (0x${flags.toString(16)}).`);
  const [packed, whole] = [file.u32(at + 16), file.u64(at + 56)];
  if ((flags & flag.zstd) === 0n) {
    if (packed !== 0) fail("KL_FATBIN_ENTRY", "An entry of the fatbin is packed in a way that is not known.");
    return file.bytes(at + header, payload);
  }
  if (packed === 0 || packed > payload || whole === 0 || whole > maxUnpacked)
    fail("KL_FATBIN_ENTRY", "An entry of the fatbin has an impossible size.");
  let content: Uint8Array;
  try {
    content = zstdDecompressSync(file.bytes(at + header, packed), { maxOutputLength: whole });
  } catch (cause) {
    return fail("KL_FATBIN_ENTRY", "An entry of the fatbin cannot be unpacked.", { cause });
  }
  if (content.byteLength !== whole) fail("KL_FATBIN_ENTRY", "An entry of the fatbin unpacks to another size.");
  return content;
}

function readEntry(file: Reader, at: number, content: Uint8Array): FatbinEntry {
  const [kind, version] = [file.u16(at), file.u16(at + 2)];
  if (version !== 0x0101) fail("KL_FATBIN_ENTRY", "An entry of the fatbin is of an unknown version.");
  const flags = file.bits64(at + 40);
  const marks = [(flags & flag.accelerated) !== 0n ? "a" : "", (flags & flag.family) !== 0n ? "f" : ""].join("");
  const architecture = `sm_${file.u32(at + 28)}${marks}`;
  const refuse = (found: string) =>
    fail("KL_FATBIN_ENTRY", `An entry of the fatbin says ${architecture} and holds code for ${shown(found)}.`);
  if (kind === 2) {
    const cubin = inspectCubin(content);
    // Family code looks plain but for a note that need not be there.
    const same = cubin.architecture === architecture || `${cubin.architecture}f` === architecture;
    if (!same) return refuse(cubin.architecture);
    return { kind: "elf", architecture, cubin };
  }
  if (kind === 1) {
    const ptx = readPtx(content);
    if (ptx?.target !== architecture) return refuse(ptx?.target ?? "nothing");
    const text = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
    const placeNames = ["_GLOBAL__N__", "_INTERNAL_"].filter((mark) => text.includes(mark));
    return { kind: "ptx", architecture, ptx, placeNames };
  }
  return fail("KL_FATBIN_ENTRY", `An entry of the fatbin is of an unknown kind (${kind}).`);
}

const comments = /\/\*[\s\S]*?\*\/|\/\/[^\n]*/g;

/** What the head of the PTX text that begins here says, comments left out; undefined where no PTX begins. */
export function readPtx(text: Uint8Array): PtxFacts | undefined {
  const start = Buffer.from(text.buffer, text.byteOffset, Math.min(text.byteLength, 1 << 13));
  const head = start.toString("latin1").replaceAll(comments, " ");
  const version = /^\s*\.version[ \t]+([0-9]{1,3}\.[0-9]{1,3})\s/.exec(head)?.[1];
  const target = /\.target[ \t]+(sm_[0-9]{2,3}[af]?)(?![0-9a-z])/.exec(head)?.[1];
  return version === undefined || target === undefined ? undefined : { target, version };
}
