import { z } from "zod";
import { base64 } from "./bundle.ts";

const timePattern = /^([0-9]{4}-[0-9]{2}-[0-9]{2})T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$/;

/** RFC 3339 with a zone, and a date that exists: JavaScript takes 30 February for 2 March. */
const time = z
  .string()
  .refine((text) => {
    const [, day] = timePattern.exec(text) ?? [];
    const midnight = new Date(`${day}T00:00:00Z`);
    return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(`${day}T`);
  }, "not a time")
  .transform((text) => new Date(text))
  // Year 1 is how some writers say that they know none.
  .refine((date) => date.getUTCFullYear() > 1969, "no such time");

const window = z.strictObject({ start: time.optional(), end: time.optional() });

const log = z.strictObject({
  baseUrl: z.string().optional(),
  hashAlgorithm: z.string().optional(),
  publicKey: z.strictObject({ rawBytes: base64, keyDetails: z.string(), validFor: window.optional() }),
  logId: z.strictObject({ keyId: base64 }).optional(),
  checkpointKeyId: z.strictObject({ keyId: base64 }).optional(),
  operator: z.string().optional(),
});

const authority = z.strictObject({
  subject: z.strictObject({ organization: z.string().optional(), commonName: z.string().optional() }).optional(),
  uri: z.string().optional(),
  certChain: z.strictObject({ certificates: z.array(z.strictObject({ rawBytes: base64 })).max(8) }),
  validFor: window.optional(),
  operator: z.string().optional(),
});

export const rootSchema = z.strictObject({
  mediaType: z.string(),
  tlogs: z.array(log).max(64).default([]),
  certificateAuthorities: z.array(authority).max(64).default([]),
  ctlogs: z.array(log).max(64).default([]),
  timestampAuthorities: z.array(authority).max(64).default([]),
});
export type RawRoot = z.infer<typeof rootSchema>;
export type RawLog = z.infer<typeof log>;
export type RawAuthority = z.infer<typeof authority>;

export const rootMediaTypes = ["application/vnd.dev.sigstore.trustedroot+json;version=0.1"];

/** In protobuf's JSON, null means absent. */
export function withoutNulls(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([, item]) => item !== null);
  return Object.fromEntries(kept.map(([key, item]) => [key, withoutNulls(item)]));
}
