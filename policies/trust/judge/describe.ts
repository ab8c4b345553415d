import { type Digest, digestOf, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import { calls, checkCall } from "../border.ts";

const shape = z.looseObject({ dsseEnvelope: z.looseObject({ payload: z.string() }) });
const statement = z.looseObject({
  predicateType: z.string(),
  subject: z.array(z.looseObject({ digest: z.record(z.string(), z.string()) })).max(256),
});

/**
 * What a bundle says of itself, without looking at its signature: good for comparing a record with a document, and for
 * no decision about trust. Null for what is no bundle.
 */
export function describeBundle(
  bytes: Uint8Array,
): { payload: Digest; predicateType: string; subjects: readonly string[] } | null {
  checkCall("describeBundle", calls.bytes, { bytes });
  try {
    const options = { maxBytes: 4 << 20, maxDepth: 32 };
    const bundle = shape.safeParse(parseStrictJson(bytes, { ...options, what: "bundle" }));
    if (!bundle.success) return null;
    const payload = Buffer.from(bundle.data.dsseEnvelope.payload, "base64");
    const parsed = statement.safeParse(parseStrictJson(payload, { ...options, what: "statement" }));
    if (!parsed.success) return null;
    const subjects = parsed.data.subject.map(({ digest }) => `sha256:${digest.sha256}`);
    return { payload: digestOf(payload), predicateType: parsed.data.predicateType, subjects };
  } catch (error) {
    if (error instanceof KernlockError) return null;
    throw error;
  }
}
