import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { checkShape, fields, parseStrictJson } from "../format/index.ts";

const wheel = z.strictObject({
  name: z.string().regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/),
  version: z.string().regex(/^[0-9]+(?:\.[0-9]+)+$/),
  file: z.string().regex(/^[A-Za-z0-9_.+-]+\.whl$/),
  digest: fields.digest,
});
const set = z.strictObject({
  /** Unpacked over each other into one folder. */
  wheels: z.array(wheel).min(1).max(16),
  /** Digest of the unpacked folder: over lines of `<hex>  <path>`, sorted by path. */
  tree: fields.digest,
});
const lock = z.strictObject({
  /** The Python that the wheels are for: it runs Triton. */
  python: z.string().regex(/^3\.[0-9]{1,2}$/),
  sets: z.strictObject({ nvcc: set, triton: set, "liger-kernel": set }),
});

export type ToolchainLock = z.infer<typeof lock>;
export type SetName = keyof ToolchainLock["sets"];
export type Wheel = z.infer<typeof wheel>;
export const setNames = ["nvcc", "triton", "liger-kernel"] as const satisfies readonly SetName[];

/** The wheels that CUDA and Triton variants are compiled with. */
export function readToolchainLock(): ToolchainLock {
  const bytes = readFileSync(join(import.meta.dirname, "cuda.lock.json"));
  return checkShape(lock, parseStrictJson(bytes, { what: "cuda.lock.json" }), "KL_BUILD_TOOLCHAIN", "cuda.lock.json");
}
