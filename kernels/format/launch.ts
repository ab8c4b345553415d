import { z } from "zod";
import { type Dim, type Dtype, dims, dtypes, type Field, type Layout, layouts, type OpName, ops } from "../abi/ops.ts";
import { fail } from "./errors.ts";
import { fields } from "./schema.ts";

/**
 * How a device image is launched, as data: an op of such an image brings no host code. The host walks `steps` in order
 * and launches those whose `when` holds; every size in it follows from the sizes in the op's arguments.
 */
const keysOf = <T extends object>(table: T) => Object.keys(table) as [keyof T & string, ...(keyof T & string)[]];
const dtype = z.enum(keysOf(dtypes) as [Dtype, ...Dtype[]]);
const whole = (most: number) => z.number().int().positive().max(most);
/** Dynamic shared memory that any GPU of today grants a block. */
const maxShared = 227 * 1024;

/** ceil(times * product(dims) / per); times and per are 1 where they are missing. */
const factor = z.strictObject({
  dims: z.array(z.enum(dims)).max(4),
  times: whole(1 << 20).optional(),
  per: whole(1 << 20).optional(),
});
/** The product of its factors; 1 where there are none. */
const extent = z.array(factor).max(4);

const param = z.discriminatedUnion("kind", [
  /** A field of the op's arguments, as it is: 4 bytes (u32, i32, f32) or 8 (u64, pointer). */
  z.strictObject({ kind: z.literal("argument"), name: z.string().max(64) }),
  z.strictObject({ kind: z.literal("extent"), type: z.enum(["i32", "i64"]), value: extent }),
  z.strictObject({ kind: z.literal("constant"), type: z.enum(["i32", "i64", "f32"]), value: z.number() }),
  /** Address of a term of the op's workspace: scratch or state plus the rounded sizes of the terms before it. */
  z.strictObject({ kind: z.enum(["scratch", "state"]), term: z.number().int().nonnegative().max(31) }),
  /** Address of at least `bytes` bytes that kernels write and nobody reads: one place for all launches will do. */
  z.strictObject({ kind: z.literal("sink"), bytes: whole(1 << 16) }),
  /** A null pointer. */
  z.strictObject({ kind: z.literal("null") }),
]);

const range = z.strictObject({ min: whole(2 ** 31).optional(), max: whole(2 ** 31).optional() });
const when = z.strictObject({
  dtype: dtype.optional(),
  stream_dtype: dtype.optional(),
  kv_dtype: dtype.optional(),
  layout: z.enum(keysOf(layouts) as [Layout, ...Layout[]]).optional(),
  sizes: z.partialRecord(z.enum(dims), range).optional(),
});

/** What the author of a package writes of a step; the rest is read from the compiled image. */
const draft = {
  file: fields.filePath,
  /** All that is named must hold. */
  when: when.optional(),
  grid: z.tuple([extent, extent, extent]),
} as const;

const entry = z.string().regex(/^[A-Za-z_$][A-Za-z0-9_$.]{0,1023}$/, "is not the name of a kernel");
const step = z.strictObject({
  ...draft,
  entry,
  /** At most 1,024 threads in all. */
  block: z.tuple([whole(1024), whole(1024), whole(64)]),
  /** Dynamic shared memory; above 48 KiB the function has to be told before. */
  shared_bytes: z.number().int().nonnegative().max(maxShared),
  /** In the order in which the kernel takes them. */
  params: z.array(param).max(64),
});

/** Whether rows that are not there (`row_seq` -1) are left alone, or computed from whatever lies there into their own place. */
const absentRows = z.enum(["untouched", "computed"]);

export const launchSchema = z.strictObject({ absent_rows: absentRows, steps: z.array(step).min(1).max(16) });
export const launchDraftSchema = z.strictObject({
  absent_rows: absentRows,
  /** Parameters by the names that the kernel gives them. */
  steps: z
    .array(z.strictObject({ ...draft, params: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/), param) }))
    .min(1)
    .max(16),
});

export type Launch = z.infer<typeof launchSchema>;
export type LaunchStep = z.infer<typeof step>;
export type LaunchParam = z.infer<typeof param>;
export type LaunchDraft = z.infer<typeof launchDraftSchema>;
export type Extent = z.infer<typeof extent>;

/** Most threads of a grid, by axis, and blocks in all. */
const maxGrid = [2 ** 31 - 1, 65_535, 65_535] as const;

/** The value of an extent. Throws `KL_LAUNCH_SIZE` where a dim has no size or the value is not exact. */
export function extentValue(value: Extent, sizes: Readonly<Partial<Record<Dim, number>>>): number {
  let result = 1;
  for (const { dims: names, times = 1, per = 1 } of value) {
    let product = times;
    for (const name of names) {
      const size = sizes[name];
      if (size === undefined || !Number.isSafeInteger(size) || size < 0)
        return fail("KL_LAUNCH_SIZE", `A launch needs the size of "${name}", which this op does not have.`);
      product *= size;
    }
    result *= Math.ceil(product / per);
    if (!Number.isSafeInteger(product) || !Number.isSafeInteger(result))
      return fail("KL_LAUNCH_SIZE", "A launch has a size that cannot be counted.");
  }
  return result;
}

/** The grid of a step. Throws `KL_LAUNCH_SIZE` where an axis is empty or larger than a GPU takes. */
export function gridOf(step: Pick<LaunchStep, "grid">, sizes: Readonly<Partial<Record<Dim, number>>>): number[] {
  const grid = step.grid.map((axis) => extentValue(axis, sizes));
  if (grid.some((n, axis) => n < 1 || n > maxGrid[axis]!) || grid.reduce((a, b) => a * b) > 2 ** 31 - 1) {
    fail("KL_LAUNCH_SIZE", `A launch has a grid of ${grid.join(" x ")} blocks.`);
  }
  return grid;
}

/** Bytes of a parameter in the kernel's parameter block. */
export function paramBytes(op: OpName, param: LaunchParam): 4 | 8 {
  switch (param.kind) {
    case "argument": {
      const kind = fieldOf(op, param.name)?.kind;
      return kind === "ptr" || kind === "u64" ? 8 : 4;
    }
    case "extent":
    case "constant":
      return param.type === "i64" ? 8 : 4;
    case "scratch":
    case "state":
    case "sink":
    case "null":
      return 8;
  }
}

const fieldOf = (op: OpName, name: string): Field | undefined =>
  (ops[op].fields as readonly Field[]).find((f) => f.name === name);

/** What a launch may name: fields of the op, dims that are fields, terms of its workspace. Throws `KL_VARIANT_LAUNCH`. */
export function checkLaunch(
  where: string,
  name: OpName,
  workspace: Readonly<Record<"scratch" | "state", readonly unknown[]>>,
  dtypesOf: Readonly<Record<string, readonly string[] | undefined>>,
  steps: readonly (Pick<LaunchStep, "grid" | "when"> & { readonly params: Iterable<LaunchParam> })[],
): void {
  const refuse = (what: string) => fail("KL_VARIANT_LAUNCH", `${where}: the launch ${what}.`);
  const sizes = (value: Extent) => {
    for (const dim of value.flatMap((f) => f.dims))
      if (!["u32", "u64"].includes(fieldOf(name, dim)?.kind ?? ""))
        refuse(`needs "${dim}", which the op does not take`);
  };
  for (const one of steps) {
    for (const axis of one.grid) sizes(axis);
    for (const key of Object.keys(one.when ?? {}))
      if (key !== "sizes" && fieldOf(name, key) === undefined)
        refuse(`depends on "${key}", which the op does not take`);
    for (const dim of Object.keys(one.when?.sizes ?? {}))
      if (fieldOf(name, dim) === undefined) refuse(`depends on "${dim}", which the op does not take`);
    for (const p of one.params) {
      if (p.kind === "argument" && fieldOf(name, p.name) === undefined)
        refuse(`passes "${p.name}", which the op does not take`);
      if (p.kind === "extent") sizes(p.value);
      if (p.kind === "constant" && p.type !== "f32" && !Number.isSafeInteger(p.value))
        refuse("passes a fraction as an integer");
      if (p.kind === "constant" && p.type === "i32" && (p.value >= 2 ** 31 || p.value < -(2 ** 31)))
        refuse("passes an integer of more than 32 bits");
      if ((p.kind === "scratch" || p.kind === "state") && p.term >= workspace[p.kind].length)
        refuse(`passes term ${p.term} of ${p.kind}, which the workspace rule does not have`);
    }
  }
  // Whatever the op says it takes must run something: an op that quietly does nothing would give wrong results.
  for (const [field, fact] of [
    ["dtype", "activation"],
    ["stream_dtype", "stream"],
    ["kv_dtype", "kv"],
    ["layout", "layouts"],
  ] as const) {
    for (const value of dtypesOf[fact] ?? []) {
      const runs = (s: (typeof steps)[number]) => s.when?.[field] === undefined || s.when[field] === value;
      if (!steps.some(runs)) refuse(`has no step for ${field} ${value}`);
    }
    for (const { when: w } of steps)
      if (w?.[field] !== undefined && !dtypesOf[fact]?.includes(w[field]!))
        refuse(`has a step for ${field} ${w[field]}, which the op does not declare`);
  }
}
