/** Runs every op of the loaded kernels on random inputs and holds what it wrote against the double-precision references. */
import {
  type ArgsOf,
  type Dim,
  dims,
  dtypes,
  encodeArgs,
  type Field,
  type Layout,
  layouts,
  type OpName,
  ops,
} from "@kernlock/kernels/abi";
import { KernlockError, type VariantOp, workspaceBytes } from "@kernlock/kernels/format";
import { type ReferenceArgs, references, roundBf16 } from "@kernlock/kernels/reference";
import { createProgram, type Device, type Memory, readMemory, writeMemory } from "../../native/index.ts";
import { type LoadedOp, launch } from "../kernels.ts";
import {
  bytesOf,
  decode,
  dimensions,
  type Element,
  elementOf,
  encode,
  type Pointer,
  poison,
  type Values,
} from "./arrays.ts";
import { type Case, casesOf } from "./cases.ts";

export interface OpResult {
  /** `dtype` and so on as the case had them, and what it was about. */
  readonly label: string;
  readonly ok: boolean;
  /** Largest row-wise ||out - ref|| / ||ref|| of the float outputs. */
  readonly error: number;
  /** What is wrong; empty where nothing is. */
  readonly text: string;
}

/** Bytes before and after every array that nothing may touch. */
const guard = 256;
/** Largest error of a row by activation type: what rounding the results, and the values in between, may cost. */
const tolerance = { f32: 1e-5, bf16: 1.5e-2 } as const;

type Types = Readonly<Record<"dtype" | "stream_dtype" | "kv_dtype", number>>;

export function* testOp(device: Device, op: LoadedOp, facts: VariantOp, seed: number): Generator<OpResult> {
  const experts = facts.layouts ?? (["bf16.rows"] as const);
  for (const layout of experts) {
    for (const types of typesOf(facts)) {
      for (const one of casesOf(facts.name, seed, layout)) {
        if (!within(facts, one.args as Record<string, unknown>)) continue;
        const names = Object.entries(types).filter(([field]) => has(facts.name, field));
        const label = [...names.map(([field, dtype]) => `${field} ${dtypeName(dtype)}`), one.label].join(", ");
        yield { label, ...attempt(() => runCase(device, op, facts, one, types, layout)) };
      }
    }
  }
}

function attempt(run: () => { error: number; problems: string[] }): Omit<OpResult, "label"> {
  try {
    const { error, problems } = run();
    return { ok: problems.length === 0, error, text: problems.slice(0, 3).join("; ") };
  } catch (error) {
    if (!(error instanceof KernlockError)) throw error;
    return { ok: false, error: Number.NaN, text: error.message };
  }
}

const fieldsOf = (op: OpName): readonly Field[] => ops[op].fields;
const has = (op: OpName, name: string): boolean => fieldsOf(op).some((field) => field.name === name);
const dtypeName = (dtype: number): string => Object.entries(dtypes).find(([, number]) => number === dtype)![0];

/** Every combination of element types that the descriptor declares. */
function typesOf({ dtypes: { activation, stream, kv } }: VariantOp): Types[] {
  const first = (list: readonly (keyof typeof dtypes)[] | undefined) => (list ?? ["f32"]).map((name) => dtypes[name]);
  return first(activation).flatMap((dtype) =>
    first(stream).flatMap((stream_dtype) => first(kv).map((kv_dtype) => ({ dtype, stream_dtype, kv_dtype }))),
  );
}

function within(facts: VariantOp, args: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(facts.limits).every(([dim, { min = 0, max = Number.POSITIVE_INFINITY, multipleOf = 1 }]) => {
    const size = args[dim];
    return typeof size !== "number" || (size >= min && size <= max && size % multipleOf === 0);
  });
}

interface Placed {
  readonly field: Pointer;
  readonly element: Element;
  readonly memory: Memory;
  readonly before: Uint8Array;
}

function runCase(device: Device, op: LoadedOp, facts: VariantOp, one: Case, types: Types, layout: Layout) {
  const { name } = facts;
  const tiled = layout === "mxfp4.tiles";
  const values = rounded(name, one.args as unknown as Record<string, unknown>, types);
  const wanted = references[name]((tiled ? { ...values, layout: layouts["mxfp4.rows"] } : values) as never);
  const given = tiled ? tiles(values) : values;

  const scalars: Record<string, number> = { ...types };
  for (const field of fieldsOf(name)) {
    const value = given[field.name];
    if (field.kind !== "ptr" && typeof value === "number") scalars[field.name] = value;
  }
  const sizes: Partial<Record<Dim, number>> = { workers: device.workers };
  for (const dim of dims) if (scalars[dim] !== undefined) sizes[dim] = scalars[dim];
  scalars.scratch_bytes = workspaceBytes(facts.workspace.scratch, sizes);
  scalars.state_bytes = workspaceBytes(facts.workspace.state, sizes);

  const placed: Placed[] = [];
  const encoded: Record<string, number | bigint> = {};
  try {
    for (const field of fieldsOf(name)) {
      if (field.kind !== "ptr") {
        const value = scalars[field.name] ?? 0;
        encoded[field.name] = field.kind === "u64" ? BigInt(value) : value;
        continue;
      }
      const element = elementOf(field, scalars);
      const content = contentOf(field, element, given[field.name] as Values | null | undefined, scalars, wanted);
      encoded[field.name] = 0n;
      if (content === null) continue;
      const before = new Uint8Array(content.length + 2 * guard).fill(poison);
      before.set(content, guard);
      const memory = device.allocate(before.length);
      placed.push({ field, element, memory, before });
      writeMemory(device, memory, before);
      encoded[field.name] = memory.address + BigInt(guard);
    }
    createProgram(device, launch(op, encodeArgs(name, encoded as unknown as ArgsOf<OpName>))).runSync();
    return judge(device, facts, placed, wanted as Record<string, Float64Array>, given, types);
  } finally {
    for (const { memory } of placed) memory.free();
  }
}

/** Inputs as the element types can hold them, so that op and reference start from the same numbers. */
function rounded(op: OpName, args: Readonly<Record<string, unknown>>, types: Types): Record<string, unknown> {
  const out: Record<string, unknown> = { ...args };
  for (const field of fieldsOf(op)) {
    const value = args[field.name];
    if (field.kind !== "ptr" || value == null) continue;
    const element = elementOf(field, { ...types, layout: Number(args.layout ?? 0) });
    if (element === "bf16") out[field.name] = Float32Array.from(value as ArrayLike<number>, roundBf16);
  }
  return out;
}

/** The experts of a case in tiles, by the reference that says what tiles are. */
function tiles(values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const args = values as unknown as ReferenceArgs<"moe">;
  const held = args.expert_end - args.expert_begin;
  const tile = (blocks: ArrayLike<number>, scales: ArrayLike<number>, rows: number, columns: number) =>
    references.mxfp4_tiles({ rows: held * rows, columns, blocks, scales }).dst;
  return {
    ...values,
    up_weight: tile(args.up_weight, args.up_scales!, 2 * args.intermediate, args.hidden),
    down_weight: tile(args.down_weight, args.down_scales!, args.hidden, args.intermediate),
    ...{ up_scales: null, down_scales: null },
  };
}

/** First bytes of an array, null for a null pointer. Outputs begin as poison, scratch too, state as zeros. */
function contentOf(
  field: Pointer,
  element: Element,
  given: Values | null | undefined,
  scalars: Readonly<Record<string, number>>,
  wanted: object,
): Uint8Array | null {
  switch (field.access) {
    case "in":
    case "inout":
      return given == null ? null : encode(given, element);
    case "out": {
      const result = (wanted as Record<string, Float64Array | undefined>)[field.name];
      return result === undefined || field.nullable
        ? null
        : new Uint8Array(result.length * bytesOf[element]).fill(poison);
    }
    case "scratch":
    case "state": {
      const bytes = scalars[`${field.name}_bytes`]!;
      return bytes === 0 ? null : new Uint8Array(bytes).fill(field.access === "state" ? 0 : poison);
    }
  }
}

function judge(
  device: Device,
  facts: VariantOp,
  placed: readonly Placed[],
  wanted: Readonly<Record<string, Float64Array>>,
  given: Readonly<Record<string, unknown>>,
  types: Types,
): { error: number; problems: string[] } {
  const problems: string[] = [];
  let worst = 0;
  const outputs: Record<string, Float64Array> = {};
  const rowSeq = given.row_seq as ArrayLike<number> | undefined;
  /** Whether a row is one that the op may fill with anything, since it is not there. */
  const anything = (row: number, count: number): boolean =>
    facts.launch?.absent_rows === "computed" && rowSeq?.length === count && rowSeq[row]! < 0;
  for (const { field, element, memory, before } of placed) {
    const after = readMemory(device, memory);
    const end = after.length - guard;
    const same = (from: number, to: number): boolean =>
      Buffer.compare(after.subarray(from, to), before.subarray(from, to)) === 0;
    if (!same(0, guard) || !same(end, after.length)) problems.push(`memory around ${field.name} was written`);
    if (field.access === "in" && !same(guard, end)) problems.push(`the input ${field.name} was written`);
    const content = after.subarray(guard, end);
    if (field.access === "state" && content.some((byte) => byte !== 0)) problems.push("state was not left zero");
    if (field.access === "out" || field.access === "inout") {
      outputs[field.name] = decode(content, element, field.access === "out");
    }
  }
  const limit = types.dtype === dtypes.bf16 && facts.dtypes.activation !== undefined ? tolerance.bf16 : tolerance.f32;
  for (const { field } of placed) {
    const [got, want] = [outputs[field.name], wanted[field.name]];
    if (got === undefined || want === undefined) continue;
    const shape = dimensions(field.shape, given);
    const width = shape.length === 1 ? 1 : shape.at(-1)!;
    if (/^(i32|u8|u64)/.test(field.shape)) {
      const rows = differingRows(got, want, width);
      // Near-ties may fall either way; then the weights of the chosen experts are near each other too, and are compared.
      const allowed = field.name === "expert_ids" && limit > tolerance.f32 ? Math.ceil(want.length / width / 8) : 0;
      if (rows.length > allowed) problems.push(`${field.name} differs in ${rows.length} rows, the first is ${rows[0]}`);
      continue;
    }
    for (let row = 0; row * width < want.length; row++) {
      const [a, b] = [got, want].map((all) => all.subarray(row * width, (row + 1) * width)) as [
        Float64Array,
        Float64Array,
      ];
      if (anything(row, want.length / width)) continue;
      const error = distance(a, b);
      if (!(error <= limit)) problems.push(`${field.name}, row ${row}: error ${error.toExponential(2)}`);
      worst = Math.max(worst, error);
    }
  }
  return { error: worst, problems };
}

/** Rows of whole numbers that are not exactly as they should be. */
function differingRows(got: Float64Array, want: Float64Array, width: number): number[] {
  const rows = new Set<number>();
  // A single byte may well be the poison's, and then looks unwritten.
  const same = (a: number, b: number): boolean => Object.is(a, b) || a === b || (Number.isNaN(a) && b === poison);
  for (let i = 0; i < want.length; i++) if (!same(got[i]!, want[i]!)) rows.add(Math.floor(i / width));
  return [...rows];
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
