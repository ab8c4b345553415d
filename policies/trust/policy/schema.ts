import { isVersion } from "@kernlock/kernels/format";
import { z } from "zod";

/**
 * The form of a policy file. `schemas/policy.schema.json` is made from it, so it says by itself only what JSON Schema can
 * say; what the parts have to do with each other is for `parsePolicy`.
 */

const identifier = z
  .string()
  .regex(/^[a-z0-9]+([._-][a-z0-9]+)*$/, "not an identifier")
  .max(128);
const time = z.iso.datetime({ offset: true, error: "not an RFC 3339 time with a zone" });
const text = z.string().min(1).max(1024);
const days = z.number().int().min(1).max(3650);
const count = z.number().int().min(1).max(32);
const names = <T extends z.ZodType>(item: T) => z.array(item).min(1).max(64);
const by = names(identifier).meta({ description: "Ids of keys or principals." });

/** `namespace/name`, where `*` may stand for any text inside one of the two segments. */
const pattern = z.string().regex(/^[a-z0-9._-]*\*?[a-z0-9._-]*\/[a-z0-9._-]*\*?[a-z0-9._-]*$/, "not a name or pattern");

const leaf = { by, atLeast: count.optional(), maxAgeDays: days.optional() };
const leaves = {
  audit: z.strictObject({ ...leaf, criteria: names(identifier) }).optional(),
  test: z.strictObject({ ...leaf, suites: names(identifier), devices: names(text).optional() }).optional(),
  sbom: z.strictObject(leaf).optional(),
  vsa: z.strictObject({ ...leaf, levels: names(text).optional() }).optional(),
  rebuild: z.strictObject(leaf).optional(),
};

/** A node of a requirement tree: an object with exactly one of these fields. */
export interface DemandText {
  allOf?: DemandText[] | undefined;
  anyOf?: DemandText[] | undefined;
  atLeast?: { count: number; of: DemandText[] } | undefined;
  audit?: z.infer<typeof leaves.audit>;
  test?: z.infer<typeof leaves.test>;
  sbom?: z.infer<typeof leaves.sbom>;
  vsa?: z.infer<typeof leaves.vsa>;
  rebuild?: z.infer<typeof leaves.rebuild>;
}

const demand: z.ZodType<DemandText> = z
  .lazy(() =>
    z.strictObject({
      ...leaves,
      allOf: z.array(demand).min(1).max(32).optional(),
      anyOf: z.array(demand).min(1).max(32).optional(),
      atLeast: z.strictObject({ count, of: z.array(demand).min(1).max(32) }).optional(),
    }),
  )
  .meta({ id: "requirement", description: "Exactly one of its fields." });

const authority = { by, atLeast: count.optional() };

const feed = z
  .strictObject({
    id: identifier,
    file: text.optional(),
    url: z
      .string()
      .regex(/^https:\/\/[!-~]+$/, "not an https URL")
      .max(1024)
      .optional(),
    by: by.optional(),
    maxAgeDays: days.optional(),
    action: z.enum(["refuse", "warn"]).optional(),
  })
  .meta({ description: "Exactly one of file (relative to the policy) and url. Signed: by and maxAgeDays." });

export const policySchema = z.strictObject({
  version: z.literal(1),
  keys: z.record(
    identifier,
    z.strictObject({ pem: z.string().max(2048), validFrom: time.optional(), validUntil: time.optional() }),
  ),
  roots: z
    .record(identifier, z.strictObject({ json: z.string().max(128 << 10) }))
    .optional()
    .meta({ description: "Sigstore trusted roots (trusted_root.json), as text." }),
  identities: z
    .record(identifier, z.strictObject({ root: identifier, issuer: text, san: text }))
    .optional()
    .meta({ description: "Certificate identities; issuer and san are compared character for character." }),
  times: z
    .strictObject({ root: identifier })
    .optional()
    .meta({ description: "Whose timestamps and log entries count in bundles that are signed with a key." }),
  principals: z.record(identifier, z.strictObject({ keys: names(identifier) })).optional(),
  criteria: z
    .record(
      identifier,
      z.strictObject({ description: text.optional(), implies: z.array(identifier).max(64).optional() }),
    )
    .optional(),
  rules: z
    .array(
      z.strictObject({
        match: pattern,
        mode: z.enum(["enforce", "warn"]).optional(),
        publishers: by,
        builders: z
          .array(z.strictObject({ id: text, keys: by }))
          .min(1)
          .max(64),
        sources: z
          .array(z.strictObject({ repository: text, revision: text.optional(), ref: text.optional() }))
          .min(1)
          .max(64),
        require: demand.optional(),
        licenses: names(text).optional(),
        payloads: names(z.enum(["shared-object", "device-image"])).optional(),
        libraries: z.array(text).max(64).optional(),
        ptx: z.boolean().optional(),
        untestedVariants: z.boolean().optional(),
        minimumAgeDays: days.optional(),
        minimumVersion: z.string().refine(isVersion, "not a version").optional(),
      }),
    )
    .max(1024),
  advisories: z.array(feed).max(32).optional(),
  revocations: z.array(feed).max(32).optional(),
  exceptions: z.strictObject({ ...authority, maxDays: days.optional() }).optional(),
  breakGlass: z.strictObject({ ...authority, maxDays: z.number().int().min(1).max(31).optional() }).optional(),
  approval: z.strictObject({ ...authority, maxDays: days.optional() }).optional(),
  numerics: z.strictObject({ allowDequantization: z.boolean() }),
  confinement: z.enum(["required", "best-effort"]).optional(),
  registry: z.strictObject({ origin: z.string().refine(isOrigin, "not an origin (scheme, host, port)") }).optional(),
});
export type PolicyText = z.infer<typeof policySchema>;

function isOrigin(value: string): boolean {
  return /^https?:\/\//.test(value) && URL.canParse(value) && new URL(value).origin === value;
}

/** The published JSON Schema of the policy file. */
export function policyJsonSchema(): Record<string, unknown> {
  return {
    ...z.toJSONSchema(policySchema, { target: "draft-2020-12", io: "input" }),
    $id: "https://kernlock.dev/schemas/policy.schema.json",
    title: "kernels.policy.yaml",
  };
}
