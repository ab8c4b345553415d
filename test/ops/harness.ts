/** Runs an op of a package on a device and holds what it wrote against the double-precision reference, byte for byte else. */

import {
  createProgram,
  type Device,
  type Library,
  type Memory,
  openDevice,
  openLibrary,
} from "@kernlock/engine/native";
import { type ArgsOf, dims, dtypes, encodeArgs, type Field, layouts, type OpName, ops } from "@kernlock/kernels/abi";
import { type VariantOp, workspaceBytes } from "@kernlock/kernels/format";
import { expect } from "vitest";
import { fromBf16, type ReferenceArgs, references, toBf16 } from "../../kernels/reference/index.ts";
import { packageSource } from "./compile.ts";

type Element = "f32" | "bf16" | "i32" | "u8" | "u64";
type Values = ArrayLike<number> | ArrayLike<bigint>;
type Pointer = Extract<Field, { kind: "ptr" }>;

/** Bytes before and after every array that nothing may touch. */
const guard = 256;
const poison = 0xa5;

export interface OpUnderTest {
  readonly device: Device;
  readonly library: Library;
  readonly index: number;
  readonly facts: VariantOp;
}

let shared: Device | undefined;
const libraries = new Map<string, { library: Library; ops: readonly VariantOp[] }>();

/** An op of a package of this repository, on a CPU device with three workers: more than some machines have cores. */
export async function openOp(packageName: string, op: OpName): Promise<OpUnderTest> {
  shared ??= openDevice({ kind: "cpu", workers: 3 });
  let loaded = libraries.get(packageName);
  if (loaded === undefined) {
    const source = packageSource(packageName);
    loaded = { library: openLibrary(await source.open(), shared), ops: source.ops };
    libraries.set(packageName, loaded);
  }
  const index = loaded.library.ops.findIndex((entry) => entry.op === op);
  const facts = loaded.ops.find((entry) => entry.name === op);
  if (index < 0 || facts === undefined) throw new Error(`${packageName} has no op ${op}`);
  return { device: shared, library: loaded.library, index, facts };
}

export interface Case {
  /** Numbers of dtypes; f32 unless given. */
  readonly dtype?: number;
  readonly stream_dtype?: number;
  readonly kv_dtype?: number;
  /** Scratch in bytes, instead of what variant.json's rule gives. */
  readonly scratch_bytes?: number;
}

/** What the op left in its arrays: values by field name, poisoned ones as NaN. */
export type Outcome = Readonly<Record<string, Float64Array>>;

/**
 * Launches the op once with scratch full of rubbish and checks what holds for every op: guards around all arrays and the
 * inputs are untouched, and state is zero again.
 */
export function launch<N extends OpName>(
  under: OpUnderTest,
  op: N,
  args: ReferenceArgs<N>,
  options: Case = {},
): Outcome {
  const { device, facts } = under;
  const scalars: Record<string, number> = { dtype: 0, stream_dtype: 0, kv_dtype: 0 };
  for (const field of ops[op].fields as readonly Field[]) {
    const given = (args as Record<string, unknown>)[field.name] ?? options[field.name as keyof Case];
    if (field.kind !== "ptr" && typeof given === "number") scalars[field.name] = given;
  }
  const sizes = Object.fromEntries(dims.map((dim) => [dim, dim === "workers" ? device.workers : scalars[dim]]));
  const workspace = Object.fromEntries(Object.entries(sizes).filter(([, size]) => size !== undefined));
  scalars.scratch_bytes = options.scratch_bytes ?? workspaceBytes(facts.workspace.scratch, workspace);
  scalars.state_bytes = workspaceBytes(facts.workspace.state, workspace);

  const arrays: { field: Pointer; element: Element; memory: Memory; bytes: number; before: Uint8Array }[] = [];
  const encoded: Record<string, number | bigint> = {};
  for (const field of ops[op].fields as readonly Field[]) {
    if (field.kind !== "ptr") {
      const value = scalars[field.name] ?? 0;
      encoded[field.name] = field.kind === "u64" ? BigInt(value) : value;
      continue;
    }
    const element = elementOf(field, scalars);
    const given = (args as Record<string, unknown>)[field.name] as Values | null | undefined;
    const content = contentOf(field, element, given, scalars);
    if (content === null) {
      encoded[field.name] = 0n;
      continue;
    }
    const memory = device.allocate(content.byteLength + 2 * guard);
    memory.bytes.fill(poison);
    memory.bytes.set(content, guard);
    encoded[field.name] = memory.address + BigInt(guard);
    arrays.push({ field, element, memory, bytes: content.byteLength, before: memory.bytes.slice() });
  }

  const step = { library: under.library, index: under.index, args: encodeArgs(op, encoded as unknown as ArgsOf<N>) };
  try {
    createProgram(device, [step]).runSync();
    const outcome: Record<string, Float64Array> = {};
    for (const { field, element, memory, bytes, before } of arrays) {
      const after = memory.bytes;
      const same = (from: number, to: number) =>
        Buffer.compare(after.subarray(from, to), before.subarray(from, to)) === 0;
      expect(same(0, guard), `bytes before ${field.name} are untouched`).toBe(true);
      expect(same(guard + bytes, after.length), `bytes after ${field.name} are untouched`).toBe(true);
      if (field.access === "in") expect(same(guard, guard + bytes), `input ${field.name} is untouched`).toBe(true);
      if (field.access === "state") {
        expect(
          after.subarray(guard, guard + bytes).every((byte) => byte === 0),
          "state is zero again",
        ).toBe(true);
      }
      if (field.access === "out" || field.access === "inout") {
        outcome[field.name] = decode(after.slice(guard, guard + bytes), element, field.access === "out");
      }
    }
    return outcome;
  } finally {
    for (const { memory } of arrays) memory.free();
  }
}

/** Launches the op and compares every output with the reference: rows by relative distance, whole numbers exactly. */
export function check<N extends OpName>(
  under: OpUnderTest,
  op: N,
  args: ReferenceArgs<N>,
  options: Case & { readonly tolerance?: number } = {},
): Outcome {
  const outcome = launch(under, op, args, options);
  const reference = references[op](args) as Record<string, Float64Array>;
  for (const field of ops[op].fields as readonly Field[]) {
    if (field.kind !== "ptr" || (field.access !== "out" && field.access !== "inout")) continue;
    const [got, want] = [outcome[field.name]!, reference[field.name]!];
    if (/^(i32|u8|u64)/.test(field.shape)) {
      expect(Array.from(got), field.name).toEqual(Array.from(want));
      continue;
    }
    const shape = dimensions(field.shape, args as Record<string, unknown>);
    const width = shape.length === 1 ? 1 : shape.at(-1)!;
    for (let row = 0; row * width < want.length; row++) {
      const part = [got, want].map((values) => values.subarray(row * width, (row + 1) * width)) as [
        Float64Array,
        Float64Array,
      ];
      const error = distance(...part);
      if (!(error <= (options.tolerance ?? 1e-5))) {
        expect.fail(
          `${field.name}, row ${row} of ${width}: error ${error}\n got ${part[0].slice(0, 8)}\nwant ${part[1].slice(0, 8)}`,
        );
      }
    }
  }
  return outcome;
}

/** ||got - want|| / ||want||; what is NaN in one must be in the other. */
function distance(got: Float64Array, want: Float64Array): number {
  let [difference, norm] = [0, 0];
  for (let i = 0; i < want.length; i++) {
    if (Number.isNaN(got[i]!) !== Number.isNaN(want[i]!)) return Number.POSITIVE_INFINITY;
    if (Number.isNaN(want[i]!) || got[i] === want[i]) continue;
    difference += (got[i]! - want[i]!) ** 2;
    norm += want[i]! ** 2;
  }
  return difference === 0 ? 0 : Math.sqrt(difference / norm);
}

/** Sizes of a shape such as `act[tokens, heads, 64]`; a size that the arguments do not give, like `page`, is NaN. */
function dimensions(shape: string, sizes: Readonly<Record<string, unknown>>): number[] {
  const names = shape.slice(shape.indexOf("[") + 1, -1).split(", ");
  return names.map((name) => Number(sizes[name] ?? name));
}

function elementOf({ shape }: Pointer, scalars: Record<string, number>): Element {
  const kind = shape.slice(0, shape.indexOf("["));
  const byDtype = (dtype: number | undefined) => (dtype === dtypes.bf16 ? "bf16" : "f32");
  switch (kind) {
    case "act":
      return byDtype(scalars.dtype);
    case "stream":
      return byDtype(scalars.stream_dtype);
    case "kv":
      return byDtype(scalars.kv_dtype);
    case "layout":
      return scalars.layout === layouts["bf16.rows"] ? "bf16" : "u8";
    default:
      return kind as Element;
  }
}

/** First bytes of an array, null for a null pointer. Outputs begin as poison, scratch too, state as zeros. */
function contentOf(
  field: Pointer,
  element: Element,
  given: Values | null | undefined,
  scalars: Record<string, number>,
): Uint8Array | null {
  switch (field.access) {
    case "in":
    case "inout":
      return given == null ? null : encode(given, element);
    case "out":
      return new Uint8Array(dimensions(field.shape, scalars).reduce((a, b) => a * b) * bytesOf[element]).fill(poison);
    case "scratch":
    case "state": {
      const bytes = scalars[`${field.name}_bytes`]!;
      return bytes === 0 ? null : new Uint8Array(bytes).fill(field.access === "state" ? 0 : poison);
    }
  }
}

const bytesOf = { f32: 4, bf16: 2, i32: 4, u8: 1, u64: 8 } as const;

function encode(values: Values, element: Element): Uint8Array {
  const numbers = values as ArrayLike<number>;
  switch (element) {
    case "f32":
      return bytes(Float32Array.from(numbers));
    case "bf16": {
      const out = new Uint16Array(numbers.length);
      for (let i = 0; i < out.length; i++) out[i] = toBf16(numbers[i]!);
      return bytes(out);
    }
    case "i32":
      return bytes(Int32Array.from(numbers));
    case "u8":
      return Uint8Array.from(numbers);
    case "u64":
      return bytes(BigUint64Array.from(values as ArrayLike<bigint>));
  }
}
const bytes = (array: { readonly buffer: ArrayBufferLike }) => new Uint8Array(array.buffer as ArrayBuffer);

/** Values of an array; in an `out` array elements that are still poison become NaN. */
function decode(content: Uint8Array, element: Element, poisoned: boolean): Float64Array {
  const view = new DataView(content.buffer);
  const width = bytesOf[element];
  const out = new Float64Array(content.length / width);
  for (let i = 0; i < out.length; i++) {
    const at = i * width;
    out[i] = poisoned && isPoison(content, at, width) ? Number.NaN : valueAt(view, at, element);
  }
  return out;
}

function isPoison(content: Uint8Array, at: number, width: number): boolean {
  for (let i = at; i < at + width; i++) if (content[i] !== poison) return false;
  return true;
}

function valueAt(view: DataView, at: number, element: Element): number {
  switch (element) {
    case "f32":
      return view.getFloat32(at, true);
    case "bf16":
      return fromBf16(view.getUint16(at, true));
    case "i32":
      return view.getInt32(at, true);
    case "u8":
      return view.getUint8(at);
    case "u64":
      return Number(view.getBigUint64(at, true));
  }
}

/**
 * The rule in variant.json may ask for more than a launch needs, never for less: with ever less scratch the op either still
 * keeps inside it or answers KL_WORKSPACE, at the latest when there is none.
 */
export function checkScratch<N extends OpName>(under: OpUnderTest, op: N, args: ReferenceArgs<N>): void {
  const sizes: Record<string, number> = { workers: under.device.workers };
  for (const [name, value] of Object.entries(args)) if (typeof value === "number") sizes[name] = value;
  const needed = workspaceBytes(under.facts.workspace.scratch, sizes);
  expect(needed, "the op declares scratch").toBeGreaterThan(0);
  let refusals = 0;
  for (let bytes = needed; bytes > 0; bytes = bytes > 64 ? Math.floor(bytes * 0.9) : bytes - 16) {
    try {
      launch(under, op, args, { scratch_bytes: bytes });
      expect(refusals, "less scratch was refused before").toBe(0);
    } catch (error) {
      expect(error).toMatchObject({ code: "KL_OP_FAILED", details: { status: "WORKSPACE" } });
      refusals++;
    }
  }
  expect(refusals).toBeGreaterThan(0);
  expect(() => launch(under, op, args, { scratch_bytes: 0 })).toThrow("WORKSPACE");
}

/** `count` rows of one sequence each, with holes where nothing is there. */
export const rowsWithHoles = (count: number, ...holes: number[]): Int32Array =>
  Int32Array.from({ length: count }, (_, row) => (holes.includes(row) ? -1 : row));

/** A copy in which the rows that are not there hold NaN, so that whoever reads them shows. */
export function withHoles(values: Float32Array, rowSeq: ArrayLike<number>): Float32Array {
  const out = values.slice();
  const width = values.length / rowSeq.length;
  for (let row = 0; row < rowSeq.length; row++) {
    if (rowSeq[row]! < 0) out.fill(Number.NaN, row * width, (row + 1) * width);
  }
  return out;
}
