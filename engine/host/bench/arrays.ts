/** Arrays of the launches that are timed: how large they are, and what they hold. */
import { type Layout, layouts } from "@kernlock/kernels/abi";
import { toBf16 } from "@kernlock/kernels/reference";
import { createProgram, type Device, type Memory } from "../../native/index.ts";
import { bytesOf, type Element, elementOf, type Pointer } from "../selftest/arrays.ts";
import { type Random, seeded } from "../selftest/random.ts";

type Sizes = Readonly<Record<string, number>>;

/** The value of an expression such as `(heads + 2 * kv_heads) * head_dim` or `ceil(columns / 64)`. */
export function evaluate(text: string, sizes: Sizes): number {
  const tokens = text.match(/[a-z_]+|\d+|[()+\-*/]/g) ?? [];
  let at = 0;
  const atom = (): number => {
    const token = tokens[at++] ?? "";
    if (token === "(" || token === "ceil") {
      if (token === "ceil") at++;
      const value = sum();
      at++;
      return token === "ceil" ? Math.ceil(value) : value;
    }
    const value = /^\d/.test(token) ? Number(token) : sizes[token];
    if (value === undefined) throw new Error(`the shape "${text}" names "${token}", which has no size`);
    return value;
  };
  const product = (): number => {
    let value = atom();
    while (tokens[at] === "*" || tokens[at] === "/") value = tokens[at++] === "*" ? value * atom() : value / atom();
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (tokens[at] === "+" || tokens[at] === "-")
      value = tokens[at++] === "+" ? value + product() : value - product();
    return value;
  };
  return sum();
}

/** Commas outside parentheses divide the dimensions. */
const dimensionsOf = (shape: string): string[] => shape.slice(shape.indexOf("[") + 1, -1).split(/,\s*(?![^(]*\))/);

export function arrayBytes({ shape }: Pointer, element: Element, sizes: Sizes, layout: Layout): number {
  const dims = dimensionsOf(shape).map((dim) => evaluate(dim, sizes));
  const count = dims.reduce((a, b) => a * b, 1);
  if (!shape.startsWith("layout")) return count * bytesOf[element];
  const [experts = 0, out = 0, columns = 0] = dims;
  switch (layout) {
    case "bf16.rows":
      return count * 2;
    case "mxfp4.rows":
      return count / 2;
    case "mxfp4.tiles":
      return experts * (out / 8) * Math.ceil(columns / 64) * 272;
  }
}

export const elementFor = (field: Pointer, scalars: Sizes): Element => elementOf(field, scalars);

/** What must be just so: indexes, positions, ways of sampling. Null: any numbers do. */
export function exactContent(
  name: string,
  op: string,
  sizes: Sizes,
  decode: boolean,
  random: Random,
): Uint8Array | null {
  const {
    tokens = 0,
    seqs = 0,
    rows = 0,
    context = 0,
    vocab = 1,
    experts = 1,
    head_dim = 2,
    page = 1,
    block_table_stride = 1,
  } = sizes;
  const top = sizes.top_k ?? 1;
  switch (name) {
    case "row_seq":
      return i32(tokens, (i) => (decode ? i : 0));
    case "positions":
      return i32(tokens, (i) => (decode ? context - 1 : i));
    case "context":
      return i32(seqs, () => context);
    case "query_start":
      return i32(seqs + 1, (i) => (i === 0 ? 0 : tokens));
    case "block_table":
      return bytes(Int32Array.from(random.shuffled(page)).subarray(0, seqs * block_table_stride));
    case "token_ids":
      return i32(tokens, () => random.below(vocab));
    case "expert_ids":
      return i32(
        tokens * top,
        (() => {
          let chosen: number[] = [];
          return () => {
            if (chosen.length === 0) chosen = random.shuffled(experts).slice(0, top);
            return chosen.pop()!;
          };
        })(),
      );
    case "expert_weights":
      return bytes(new Float32Array(tokens * top).fill(1 / top));
    case "sample_rows":
      return i32(rows, (i) => i);
    case "temperature":
      return bytes(new Float32Array(rows));
    case "top_p":
      return bytes(new Float32Array(rows).fill(1));
    case "top_k":
      return op === "sample" ? i32(rows, () => 0) : null;
    case "seeds":
    case "counters":
      return new Uint8Array(8 * rows);
    case "inv_freq":
      return bytes(Float32Array.from({ length: head_dim / 2 }, (_, i) => 150000 ** ((-2 * i) / head_dim)));
    default:
      return null;
  }
}

const bytes = (array: {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
}): Uint8Array => new Uint8Array(array.buffer as ArrayBuffer, array.byteOffset, array.byteLength);
const i32 = (count: number, of: (i: number) => number): Uint8Array =>
  bytes(Int32Array.from({ length: count }, (_, i) => of(i)));

/** How many different experts a drawn `expert_ids` goes to. */
export const expertsIn = (ids: Uint8Array): number =>
  new Set(new Int32Array(ids.buffer, ids.byteOffset, ids.length / 4)).size;

/** Bytes of numbers of a kind, to be repeated. Their length is one that no array of a power of two repeats with. */
function pattern(name: string, element: Element, layout: number): Uint8Array {
  const random = seeded(name.length + 1);
  const count = 1 << 18;
  switch (element) {
    case "f32":
      return bytes(random.normal(count));
    case "bf16":
      return bytes(Uint16Array.from(random.normal(count, name.endsWith("weight") ? 0.05 : 1), toBf16));
    case "u8":
      if (name.endsWith("scales")) return random.bytes(count, 119, 121);
      return layout === layouts["mxfp4.tiles"] ? tilePattern(random) : random.bytes(count);
    case "i32":
    case "u64":
      throw new Error(`nothing says what ${name} holds`);
  }
}

/** Tiles of 256 bytes of codes and 16 scales, as `mxfp4_tiles` writes scales of 119 to 121. */
function tilePattern(random: Random): Uint8Array {
  const out = random.bytes(272 * 512);
  for (let tile = 0; tile < out.length; tile += 272) out.set(random.bytes(16, 119 + 94, 121 + 94), tile + 256);
  return out;
}

const patterns = new Map<string, Uint8Array>();

/** Fills memory of a device with numbers of a kind. */
export function fillPattern(device: Device, memory: Memory, name: string, element: Element, layout: number): void {
  const key = `${name} ${element} ${layout}`;
  const source = patterns.get(key) ?? pattern(name, element, layout);
  patterns.set(key, source);
  if (device.kind === "cpu") {
    for (let at = 0; at < memory.size; at += source.length) {
      memory.view(at, Math.min(source.length, memory.size - at)).set(source.subarray(0, memory.size - at));
    }
    return;
  }
  // One pinned piece, many copies from it.
  const piece = device.allocateHost(
    Math.min(memory.size, source.length * Math.max(1, Math.floor((32 << 20) / source.length))),
  );
  for (let at = 0; at < piece.size; at += source.length) piece.bytes.set(source.subarray(0, piece.size - at), at);
  const copies = Array.from({ length: Math.ceil(memory.size / piece.size) }, (_, i) => ({
    to: memory.address + BigInt(i * piece.size),
    from: piece.address,
    bytes: Math.min(piece.size, memory.size - i * piece.size),
    up: true,
  }));
  createProgram(device, copies).runSync();
  piece.free();
}
