import { z } from "zod";
import { checkShape, fail, fields, parseStrictJson } from "../format/index.ts";
import { checkOps, checkTarget, variantParts } from "../format/variant.ts";

const compile = z.strictObject({
  output: fields.filePath.refine((p) => !p.includes("/") && p.endsWith(".so"), "is not a file name that ends in .so"),
  kind: z.literal("shared-object"),
  language: z.literal("c++"),
  sources: z
    .array(fields.filePath.refine((p) => /\.(cc|cpp|c)$/.test(p), "does not end in .cc, .cpp or .c"))
    .min(1)
    .max(64),
  /** Flags besides the builder's own. */
  flags: z.array(z.string().max(100)).max(32).default([]),
});
const variant = z.strictObject({
  variant: fields.variantKey,
  platform: variantParts.platform,
  backend: variantParts.backend,
  compile: z.array(compile).min(1).max(16),
  ops: z.array(variantParts.op).min(1).max(256),
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
  variants: z.array(variant).min(1).max(64),
});

export type KernelSource = z.infer<typeof source>;
export type VariantSource = z.infer<typeof variant>;
export type CompileStep = z.infer<typeof compile>;

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
    checkOps(v.ops);
    once(
      v.compile.map((c) => c.output),
      "output",
    );
    for (const o of v.ops) {
      if (!v.compile.some((c) => c.output === o.file)) {
        fail("KL_BUILD_SOURCE", `${what}: the op ${o.name}/${o.path} lies in "${o.file}", which nothing compiles.`);
      }
    }
    for (const c of v.compile) {
      once(c.sources, "source");
      for (const flag of c.flags) checkFlag(flag);
    }
  }
  return value;
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
