import { fail } from "../format/errors.ts";
import { type Slot, type StructLayout, structLayout } from "./layout.ts";
import { type OpName, opNames, ops } from "./ops.ts";

type FieldOf<N extends OpName> = (typeof ops)[N]["fields"][number];

/** The arguments of an op: numbers for `u32`, `i32` and `f32`, bigints for `u64` and device addresses (null: `0n`). */
export type ArgsOf<N extends OpName> = {
  readonly [F in FieldOf<N> as F["name"]]: F["kind"] extends "u64" | "ptr" ? bigint : number;
};

interface Encoder extends StructLayout {
  readonly required: ReadonlySet<string>;
}
function encoder(op: OpName): Encoder {
  const required = ops[op].fields.filter((field) => field.kind === "ptr" && !field.nullable).map(({ name }) => name);
  return { ...structLayout(op), required: new Set<string>(required) };
}
const encoders = Object.fromEntries(opNames.map((op) => [op, encoder(op)])) as Record<OpName, Encoder>;

/** Bytes of the argument struct of an op. */
export const argsBytes = (op: OpName): number => encoders[op].bytes;

/** Where a field lies in its struct, to patch an encoded one. */
export function fieldOffset<N extends OpName>(op: N, field: keyof ArgsOf<N> & string): number {
  const slot = encoders[op].slots.find(({ name }) => name === field);
  if (slot === undefined) fail("KL_ABI_ARGUMENT", `Op ${op} has no field ${field}.`);
  return slot.offset;
}

/**
 * The argument struct of an op, byte for byte as C lays it out (little endian).
 * @throws KernlockError KL_ABI_ARGUMENT when a value is missing, out of its type's range, or null where it may not be
 */
export function encodeArgs<N extends OpName>(op: N, values: ArgsOf<N>): Uint8Array {
  const { bytes, slots, required } = encoders[op];
  const out = new Uint8Array(bytes);
  const view = new DataView(out.buffer);
  view.setUint32(0, bytes, true);
  for (const slot of slots) {
    if (slot.kind === "padding" || slot.offset === 0) continue;
    const value = (values as Record<string, unknown>)[slot.name];
    const problem = write(view, slot, value) ?? (value === 0n && required.has(slot.name) ? "null" : undefined);
    if (problem) fail("KL_ABI_ARGUMENT", `Argument ${slot.name} of op ${op} is ${problem}.`, { details: { op } });
  }
  return out;
}

/** Writes a value, or says what is wrong with it. */
function write(view: DataView, { kind, offset }: Slot, value: unknown): string | undefined {
  switch (kind) {
    case "u32":
      if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 0xffffffff) return "not a u32";
      view.setUint32(offset, value as number, true);
      return undefined;
    case "i32":
      if (!Number.isInteger(value) || (value as number) !== ((value as number) | 0)) return "not an i32";
      view.setInt32(offset, value as number, true);
      return undefined;
    case "f32":
      if (typeof value !== "number" || !Number.isFinite(Math.fround(value))) return "not a finite f32";
      view.setFloat32(offset, value, true);
      return undefined;
    case "u64":
    case "ptr":
      if (typeof value !== "bigint" || BigInt.asUintN(64, value) !== value) return "not a 64-bit bigint";
      view.setBigUint64(offset, value, true);
      return undefined;
    case "padding":
      return undefined;
  }
}
