import { z } from "zod";
import { type Dtype, dims, dtypes, type Layout, layouts, nodes, type OpName, opNames, ops } from "../abi/ops.ts";
import { prettyJson } from "./canonical.ts";
import { fail } from "./errors.ts";
import { parseStrictJson } from "./json.ts";
import { checkLaunch, launchSchema } from "./launch.ts";
import { parseVariantKey } from "./names.ts";
import { checkShape, fields } from "./schema.ts";

export const modes = ["f32", "bf16", "q8"] as const;
export type Mode = (typeof modes)[number];
export const features = ["sinks", "sliding_window", "paged", "varlen", "batch_invariant", "pdl"] as const;
export type Feature = (typeof features)[number];

const keysOf = <T extends object>(table: T) => Object.keys(table) as [keyof T & string, ...(keyof T & string)[]];
const dtype = z.enum(keysOf(dtypes) as [Dtype, ...Dtype[]]);
const layout = z.enum(keysOf(layouts) as [Layout, ...Layout[]]);
const some = <T extends z.ZodType>(item: T) =>
  z.array(item).refine((items) => new Set(items).size === items.length, "names something twice");
const list = <T extends z.ZodType>(item: T) => some(item).min(1);

const count = z
  .number()
  .int()
  .positive()
  .max(2 ** 40);
const limit = z.strictObject({ min: count.optional(), max: count.optional(), multipleOf: count.optional() });
const term = z.strictObject({ bytes: count, dims: z.array(z.enum(dims)).max(8) });
const workspace = z.strictObject({ scratch: z.array(term).max(32), state: z.array(term).max(32) });

const architecture = z.string().regex(/^sm_[0-9]{2,3}[af]?$/, "is not a GPU architecture such as sm_90a");
const twoPartVersion = z.string().regex(/^[0-9]{1,3}\.[0-9]{1,3}$/, "is not a version of the form 2.17");

const platform = z.strictObject({
  os: z.literal("linux"),
  arch: z.literal("x86_64"),
  libc: z.strictObject({ family: z.literal("glibc"), minimum: twoPartVersion }),
});
const backend = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("cpu"), level: z.enum(["x86-64-v2", "x86-64-v3", "x86-64-v4"]) }),
  z
    .strictObject({
      kind: z.literal("cuda"),
      /** Of machine code; empty where there is PTX alone. */
      architectures: some(architecture),
      /** Targets of PTX, which a driver compiles: `sm_90` for what nvcc calls compute_90. */
      ptx: some(architecture),
      driver: twoPartVersion,
    })
    .refine(({ architectures, ptx }) => architectures.length + ptx.length > 0, "is for no GPU"),
]);
const file = z.strictObject({
  path: fields.filePath,
  kind: z.enum(["shared-object", "device-image", "card", "sbom", "license"]),
  digest: fields.digest,
  size: fields.size,
});
const op = z.strictObject({
  name: z.enum(opNames as [OpName, ...OpName[]]),
  path: z.string().regex(/^[a-z0-9][a-z0-9_-]{0,31}$/, "is not the name of a path such as cpp or triton"),
  covers: z.array(z.enum(nodes)),
  mode: z.enum(modes),
  file: fields.filePath,
  dtypes: z.strictObject({
    activation: list(dtype).optional(),
    stream: list(dtype).optional(),
    kv: list(dtype).optional(),
  }),
  layouts: list(layout).optional(),
  limits: z.partialRecord(z.enum(dims), limit),
  features: z.array(z.enum(features)).refine((f) => new Set(f).size === f.length, "names something twice"),
  workspace,
  /** Exactly the ops of device images have one. */
  launch: launchSchema.optional(),
});

/** The parts of `variant.json` that a package's own `kernel.json` writes in the same words. */
export const variantParts = { platform, backend, op, architecture, driver: twoPartVersion } as const;

const variant = z.strictObject({
  schema: z.literal("kernlock.variant/v1"),
  package: fields.packageName,
  version: fields.version,
  variant: fields.variantKey,
  abi: z.number().int().nonnegative(),
  abi_build: fields.digest,
  platform,
  backend,
  /** False: compiles, and has not been run on such a device. Missing: false for GPUs, true for CPUs. */
  tested: z.boolean().optional(),
  files: z.array(file).min(1).max(256),
  ops: z.array(op).min(1).max(256),
  license: fields.spdx,
});

export type Variant = z.infer<typeof variant>;
export type VariantFile = z.infer<typeof file>;
export type VariantOp = z.infer<typeof op>;
export type Platform = z.infer<typeof platform>;
export type Backend = z.infer<typeof backend>;
export type Limit = z.infer<typeof limit>;
/** `bytes` times the product of `dims`. */
export type Term = z.infer<typeof term>;

/** Reads `variant.json`. Throws `KL_JSON_*`, `KL_VARIANT_SHAPE` or the code of the cross check that failed. */
export function parseVariant(bytes: Uint8Array | string): Variant {
  const what = "variant.json";
  const value = checkShape(variant, parseStrictJson(bytes, { what, maxBytes: 1 << 20 }), "KL_VARIANT_SHAPE", what);
  checkVariant(value);
  return value;
}

/** The bytes of `variant.json`; what it holds is checked first, so nothing is written that could not be read. */
export function formatVariant(value: Variant): string {
  checkVariant(checkShape(variant, value, "KL_VARIANT_SHAPE", "variant.json"));
  return prettyJson(value);
}

/** The files that can hold instructions: the ones that are sealed and loaded. */
export function payloadFiles(value: Variant): VariantFile[] {
  return value.files.filter((f) => f.kind === "shared-object" || f.kind === "device-image");
}

/** Whether the variant has been run and checked on a device of its kind. */
export function isTested(value: Pick<Variant, "tested" | "backend">): boolean {
  return value.tested ?? value.backend.kind === "cpu";
}

function checkVariant(value: Variant): void {
  checkTarget(value.variant, value.platform, value.backend);
  checkFiles(value.files);
  const payload = new Set(payloadFiles(value).map((f) => f.path));
  for (const [i, o] of value.ops.entries()) {
    if (!payload.has(o.file)) {
      fail(
        "KL_VARIANT_FILE_UNKNOWN",
        `variant.json: ops[${i}].file names "${o.file}", which is no payload file of it.`,
      );
    }
  }
  checkOps(value.ops);
  checkLaunches(value);
}

/** Exactly the ops of device images are launched by data, and by files that are such images. */
function checkLaunches(value: Variant): void {
  const images = new Set(value.files.filter((f) => f.kind === "device-image").map((f) => f.path));
  if (images.size > 0 && value.backend.kind !== "cuda")
    fail("KL_VARIANT_LAUNCH", "variant.json: only CUDA variants have device images.");
  for (const [i, o] of value.ops.entries()) {
    const where = `variant.json: ops[${i}] (${o.name}/${o.path})`;
    if ((o.launch !== undefined) !== images.has(o.file))
      fail(
        "KL_VARIANT_LAUNCH",
        `${where} ${o.launch ? "is no device image and has" : "is a device image and lacks"} launch.`,
      );
    const stranger = o.launch?.steps.find((s) => !images.has(s.file));
    if (stranger !== undefined)
      fail("KL_VARIANT_LAUNCH", `${where} launches "${stranger.file}", which is no device image of the variant.`);
    if (o.launch?.steps.some((s) => s.block[0] * s.block[1] * s.block[2] > 1024) === true)
      fail("KL_VARIANT_LAUNCH", `${where} has more than 1,024 threads a block.`);
  }
}

function checkFiles(files: readonly VariantFile[]): void {
  for (const [i, f] of files.entries()) {
    const before = files[i - 1];
    if (before !== undefined && before.path >= f.path) {
      fail("KL_VARIANT_FILE_ORDER", `variant.json: files[${i}] ("${f.path}") is named twice or out of order.`);
    }
    if (f.size === 0) fail("KL_VARIANT_SHAPE", `variant.json: files[${i}] ("${f.path}") is empty.`);
  }
}

/** Throws `KL_VARIANT_KEY` unless the key says what platform and backend say. */
export function checkTarget(key: string, where: Platform, what: Backend): void {
  const parsed = parseVariantKey(key);
  const level =
    what.kind === "cpu"
      ? what.level.slice("x86-64-".length)
      : what.architectures.length > 0
        ? what.architectures.map((a) => a.replace("_", "")).join("")
        : what.ptx.map((a) => a.replace("sm_", "ptx")).join("");
  const ok = parsed.os === where.os && parsed.arch === where.arch && parsed.backend === what.kind;
  if (!ok || (parsed.level !== null && parsed.level !== level)) {
    fail("KL_VARIANT_KEY", `variant.json: the key "${key}" says something else than platform and backend.`);
  }
}

/** Cross checks of ops with the table in `ops.ts`. Throws `KL_VARIANT_OP_DUPLICATE`, `_COVERS`, `_OP_FACTS`. */
export function checkOps(list: readonly VariantOp[]): void {
  const seen = new Set<string>();
  for (const [i, o] of list.entries()) {
    const name = `${o.name}/${o.path}`;
    const where = `variant.json: ops[${i}] (${name})`;
    if (seen.has(name)) fail("KL_VARIANT_OP_DUPLICATE", `${where} is declared twice.`);
    seen.add(name);
    const spec = ops[o.name];
    const covers: readonly string[] = spec.covers;
    if (covers.length !== o.covers.length || covers.some((n, k) => n !== o.covers[k])) {
      fail("KL_VARIANT_COVERS", `${where} declares other nodes than the op covers (${covers.join(", ") || "none"}).`);
    }
    const has = new Set<string>(spec.fields.map((f) => f.name));
    const facts: readonly [string, boolean, boolean][] = [
      ["dtypes.activation", has.has("dtype"), o.dtypes.activation !== undefined],
      ["dtypes.stream", has.has("stream_dtype"), o.dtypes.stream !== undefined],
      ["dtypes.kv", has.has("kv_dtype"), o.dtypes.kv !== undefined],
      ["layouts", has.has("layout"), o.layouts !== undefined],
    ];
    for (const [fact, wanted, given] of facts) {
      if (wanted !== given) fail("KL_VARIANT_OP_FACTS", `${where} ${wanted ? "lacks" : "must not have"} ${fact}.`);
    }
    for (const kind of ["scratch", "state"] as const) {
      if (o.workspace[kind].length > 0 && !has.has(kind)) {
        fail("KL_VARIANT_OP_FACTS", `${where} declares ${kind}, which the op does not take.`);
      }
    }
    if (o.launch !== undefined)
      checkLaunch(where, o.name, o.workspace, { ...o.dtypes, layouts: o.layouts }, o.launch.steps);
    for (const [dim, l] of Object.entries(o.limits)) {
      if (l.min !== undefined && l.max !== undefined && l.min > l.max) {
        fail("KL_VARIANT_OP_FACTS", `${where} has a limit of ${dim} whose min is above its max.`);
      }
    }
  }
}
