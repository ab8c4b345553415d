import { checkShape, fail, fields, parseStrictJson, prettyJson } from "@kernlock/kernels/format";
import { checkCall, given } from "@kernlock/policies/trust";
import semver from "semver";
import { z } from "zod";
import type { Manifest } from "./types.ts";

const what = "kernels.json";

/** Scheme, host and port; nothing after them, and no user. */
export const origin = z
  .string()
  .max(300)
  .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text) && new URL(text).origin === text, {
    error: "is not an origin (scheme, host and port, without a slash at the end)",
  });

const schema = z.strictObject({
  version: z.literal(1),
  registry: origin,
  variants: z
    .array(fields.variantKey)
    .min(1)
    .refine((keys) => new Set(keys).size === keys.length, "names a variant twice"),
  kernels: z.record(
    fields.packageName,
    z.string().refine((range) => range.trim() !== "" && semver.validRange(range) !== null, "is not a semver range"),
  ),
});

/**
 * Reads `kernels.json`. Throws KL_JSON_*, KL_MANIFEST_FIELD, and KL_MANIFEST_RESERVED for `model`, which is kept for
 * pinning a model's files later.
 */
export function parseManifest(bytes: Uint8Array | string): Manifest {
  checkCall("parseManifest", given.document, bytes);
  const json = parseStrictJson(bytes, { maxBytes: 1 << 20, maxDepth: 8, what });
  if (typeof json === "object" && json !== null && Object.hasOwn(json, "model")) {
    fail("KL_MANIFEST_RESERVED", `${what}: "model" is reserved and not supported yet.`, {
      remedy: "Remove the field.",
    });
  }
  return checkManifest(json);
}

/** What a manifest is, whoever made it. KL_MANIFEST_FIELD. */
export function checkManifest(value: unknown): Manifest {
  return checkShape<Manifest>(schema, value, "KL_MANIFEST_FIELD", what);
}

export function formatManifest(manifest: Manifest): string {
  return prettyJson(checkManifest(manifest));
}
