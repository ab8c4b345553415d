import { z } from "zod";
import { checkShape, fail, fields, parseStrictJson } from "../format/index.ts";
import { checkLaunch, launchDraftSchema } from "../format/launch.ts";
import { checkOps, checkTarget, variantParts } from "../format/variant.ts";

const fileName = (ending: string) =>
  fields.filePath.refine((p) => !p.includes("/") && p.endsWith(ending), `is not a file name that ends in ${ending}`);
const fileOf = (endings: RegExp, what: string) => fields.filePath.refine((p) => endings.test(p), what);
const cppSources = z
  .array(fileOf(/\.(cc|cpp|c)$/, "does not end in .cc, .cpp or .c"))
  .min(1)
  .max(64);
/** Flags besides the builder's own. */
const flags = z.array(z.string().max(100)).max(32).default([]);
const identifier = z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/, "is not an identifier");

const cpp = z.strictObject({
  output: fileName(".so"),
  kind: z.literal("shared-object"),
  language: z.literal("c++"),
  sources: cppSources,
  flags,
});
const cuda = z.strictObject({
  output: fileName(".so"),
  kind: z.literal("shared-object"),
  language: z.literal("cuda"),
  /** Host code; it takes the device image in with `.incbin "<image>"`. */
  sources: cppSources,
  flags,
  device: z.strictObject({ source: fileOf(/\.cu$/, "does not end in .cu"), image: fileName(".cubin"), flags }),
});
const triton = z.strictObject({
  output: fileName(".cubin"),
  kind: z.literal("device-image"),
  language: z.literal("triton"),
  /** A file of the package, or a module of a pinned wheel. */
  from: z.union([
    z.strictObject({ file: fileOf(/^(?:[^/]+\/)*[A-Za-z_][A-Za-z0-9_]*\.py$/, "is not the path of a Python module") }),
    z.strictObject({
      wheel: z.literal("liger-kernel"),
      module: z.string().regex(/^[a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)*$/),
    }),
  ]),
  function: identifier,
  /** In the order of the kernel; `aligned` promises a multiple of 16. */
  params: z
    .array(
      z.union([
        z.strictObject({
          name: identifier,
          type: z.string().regex(/^(?:\*(?:bf16|fp32|u8|i32|i64)|i32|i64|u32|fp32)$/, "is not a type of Triton"),
          aligned: z.boolean().default(false),
        }),
        z.strictObject({ name: identifier, constexpr: z.union([z.number(), z.boolean(), z.string().max(64)]) }),
      ]),
    )
    .min(1)
    .max(64),
  warps: z.union([z.literal(1), z.literal(2), z.literal(4), z.literal(8), z.literal(16)]),
  stages: z.number().int().min(1).max(8),
});
const compile = z.discriminatedUnion("language", [cpp, cuda, triton]);
const op = variantParts.op.extend({ launch: launchDraftSchema.optional() });
const parts = { compile: z.array(compile).min(1).max(32), ops: z.array(op).min(1).max(256) } as const;
const variant = z.strictObject({
  variant: fields.variantKey,
  platform: variantParts.platform,
  backend: variantParts.backend,
  /** Whether it has been run and checked on a device of its kind. */
  tested: z.boolean().optional(),
  ...parts,
});
/** Variants that differ in nothing but the GPU they are compiled for. */
const family = z.strictObject({
  each: z
    .array(z.strictObject({ architecture: variantParts.architecture, tested: z.boolean() }))
    .min(1)
    .max(16),
  platform: variantParts.platform,
  backend: z.strictObject({ kind: z.literal("cuda"), driver: variantParts.driver }),
  ...parts,
});
/** One or the other, so that an error names the field that is wrong rather than both shapes. */
const variants = z.unknown().transform((value, context) => {
  const isFamily = typeof value === "object" && value !== null && "each" in value;
  const result = isFamily ? family.transform(expand).safeParse(value) : variant.safeParse(value);
  if (result.success) return result.data;
  context.issues.push(...(result.error.issues as unknown as typeof context.issues));
  return z.NEVER;
});
const source = z.strictObject({
  name: fields.packageName,
  version: fields.version,
  license: fields.spdx,
  summary: fields.line.min(1).max(300),
  /** Markdown page about the package. */
  card: fields.filePath,
  source: z.strictObject({ repository: fields.url }),
  /** Files of the package that come from elsewhere, pinned by digest. */
  upstream: z
    .array(z.strictObject({ path: fields.filePath, url: fields.url, digest: fields.digest }))
    .max(64)
    .default([]),
  variants: z
    .array(variants)
    .min(1)
    .max(64)
    .transform((list) => list.flat()),
});

function expand({ each, platform, backend, ...rest }: z.infer<typeof family>): z.infer<typeof variant>[] {
  return each.map(({ architecture, tested }) => ({
    variant: `${platform.os}-${platform.arch}-cuda-${architecture.replace("_", "")}`,
    platform,
    backend: { ...backend, architectures: [architecture], ptx: [] },
    tested,
    ...rest,
  }));
}

export type KernelSource = z.infer<typeof source>;
export type VariantSource = z.infer<typeof variant>;
export type CompileStep = z.infer<typeof compile>;
export type LibraryStep = Exclude<CompileStep, { language: "triton" }>;
export type CudaStep = Extract<CompileStep, { language: "cuda" }>;
export type TritonStep = Extract<CompileStep, { language: "triton" }>;
export type OpSource = z.infer<typeof op>;

/** Files of the package that a step names. */
export function sourcesOf(step: CompileStep): string[] {
  switch (step.language) {
    case "c++":
      return step.sources;
    case "cuda":
      return [...step.sources, step.device.source];
    case "triton":
      return "file" in step.from ? [step.from.file] : [];
  }
}

/** Reads kernel.json. Throws `KL_JSON_*`, `KL_BUILD_SOURCE`, `KL_BUILD_FLAG`, `KL_VARIANT_*`. */
export function parseKernelSource(bytes: Uint8Array | string): KernelSource {
  const what = "kernel.json";
  const value = checkShape(source, parseStrictJson(bytes, { what, maxBytes: 1 << 20 }), "KL_BUILD_SOURCE", what);
  const once = (items: readonly string[], label: string) => {
    if (new Set(items).size !== items.length) fail("KL_BUILD_SOURCE", `${what} names one ${label} twice.`);
  };
  once(
    value.variants.map((v) => v.variant),
    "variant",
  );
  once(
    value.upstream.map((u) => u.path),
    "upstream file",
  );
  for (const v of value.variants) {
    checkTarget(v.variant, v.platform, v.backend);
    checkOps(v.ops.map(({ launch: _, ...rest }) => rest));
    once(
      v.compile.map((c) => c.output),
      "output",
    );
    for (const [i, o] of v.ops.entries()) {
      if (!v.compile.some((c) => c.output === o.file)) {
        fail("KL_BUILD_SOURCE", `${what}: the op ${o.name}/${o.path} lies in "${o.file}", which nothing compiles.`);
      }
      checkLaunchDraft(`${what}: ops[${i}] (${o.name}/${o.path})`, o, v);
    }
    for (const c of v.compile) {
      once(sourcesOf(c), "source");
      if (c.language !== "c++" && v.backend.kind !== "cuda")
        fail("KL_BUILD_SOURCE", `${what}: ${c.output} is for GPUs, and ${v.variant} is not.`);
      if (c.language === "triton") continue;
      for (const flag of c.flags) checkFlag(flag);
      if (c.language === "cuda") for (const flag of c.device.flags) checkDeviceFlag(flag);
    }
  }
  return value;
}

function checkLaunchDraft(where: string, op: OpSource, { compile }: VariantSource): void {
  const step = (file: string) => compile.find((c) => c.output === file);
  if ((step(op.file)?.kind === "device-image") !== (op.launch !== undefined))
    fail("KL_BUILD_SOURCE", `${where}: exactly the ops of device images have launch data.`);
  if (op.launch === undefined) return;
  const steps = op.launch.steps.map((s) => ({ ...s, params: Object.values(s.params) }));
  checkLaunch(where, op.name, op.workspace, { ...op.dtypes, layouts: op.layouts }, steps);
  for (const s of op.launch.steps) {
    const image = step(s.file);
    if (image?.language !== "triton") {
      fail("KL_BUILD_SOURCE", `${where}: the launch names ${s.file}, which no Triton step compiles.`);
    } else {
      const takes = image.params.flatMap((p) => ("type" in p ? [p.name] : [])).sort();
      if (takes.join() !== Object.keys(s.params).sort().join())
        fail("KL_BUILD_SOURCE", `${where}: ${image.function} takes ${takes.join(", ")}; the launch gives others.`);
    }
  }
}

const allowedDeviceFlag =
  /^-(?:[DU][A-Za-z_][A-Za-z0-9_]*(?:=[A-Za-z0-9_.,+-]*)?|-use_fast_math|-fmad=(?:true|false)|-ftz=(?:true|false)|-maxrregcount=[0-9]{1,3}|-expt-relaxed-constexpr)$/;

function checkDeviceFlag(flag: string): void {
  if (allowedDeviceFlag.test(flag)) return;
  fail("KL_BUILD_FLAG", `kernel.json asks nvcc for the flag ${JSON.stringify(flag)}, which is not allowed.`, {
    remedy: "Use -D, -U, --use_fast_math, --fmad, --ftz, --maxrregcount or --expt-relaxed-constexpr.",
  });
}

const allowedFlag =
  /^-(?:[DU][A-Za-z_][A-Za-z0-9_]*(?:=[A-Za-z0-9_.,+-]*)?|O[0-3s]|f[a-z0-9][a-z0-9-]*(?:=[a-z0-9,.-]+)?|m(?:no-[a-z0-9.-]+|prefer-vector-width=[0-9]+|tune=[a-z0-9-]+)|W[a-z][a-z0-9-]*(?:=[0-9]+)?|pthread)$/;
const refusedFlag = /^-(?:fplugin|f[a-z]+-prefix-map|frandom-seed|fdump|fprofile|fsanitize|fvisibility|mtune=native)/;

/** A flag may tune how the package's own sources are compiled; it may not bring in files, plugins or another target. */
function checkFlag(flag: string): void {
  if (!allowedFlag.test(flag) || refusedFlag.test(flag)) {
    fail("KL_BUILD_FLAG", `kernel.json asks for the compiler flag ${JSON.stringify(flag)}, which is not allowed.`, {
      remedy: "Use -D, -U, -O, -f, -m and -W flags that name no file and leave the target to the variant.",
    });
  }
}
