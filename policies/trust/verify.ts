import { type Digest, digestOf, type ErrorCode, fail, KernlockError, parseStrictJson } from "@kernlock/kernels/format";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, Verifier } from "@sigstore/verify";
import { z } from "zod";
import { bundleMediaType, payloadType } from "./create.ts";
import { firstIssue } from "./shape.ts";
import type { SignedStatement, Statement, TrustedKey } from "./types.ts";

const limits = { bundleBytes: 4 << 20, depth: 32, subjects: 256 };

/** Standard base64 with padding, in the one spelling that its bytes have. */
const base64 = z.string().refine((text) => Buffer.from(text, "base64").toString("base64") === text, "not base64");

// Both halves of each "one of" are let through here, so that choosing the wrong one gets its own code below.
const bundleSchema = z.strictObject({
  mediaType: z.string(),
  verificationMaterial: z.strictObject({
    publicKey: z.strictObject({ hint: z.string().max(256).optional() }).optional(),
    certificate: z.unknown().optional(),
    x509CertificateChain: z.unknown().optional(),
    tlogEntries: z.array(z.unknown()).optional(),
    timestampVerificationData: z.strictObject({ rfc3161Timestamps: z.array(z.unknown()).optional() }).optional(),
  }),
  dsseEnvelope: z
    .strictObject({
      payload: base64,
      payloadType: z.string(),
      signatures: z.array(z.strictObject({ sig: base64, keyid: z.string().optional() })),
    })
    .optional(),
  messageSignature: z.unknown().optional(),
});

const statementSchema = z.strictObject({
  _type: z.enum(["https://in-toto.io/Statement/v0.1", "https://in-toto.io/Statement/v1"]),
  predicateType: z.string().min(1),
  subject: z
    .array(z.looseObject({ name: z.string().optional(), digest: z.record(z.string(), z.string()) }))
    .min(1)
    .max(limits.subjects),
  predicate: z.record(z.string(), z.unknown()),
});

const remedies: Readonly<Record<string, string>> = {
  KL_BUNDLE_UNKNOWN_KEY: "If you trust this signer, name its key in the policy; otherwise do not use what it signed.",
  KL_BUNDLE_KEY_WINDOW: "Ask the publisher to sign with a current key, or correct this machine's clock.",
  KL_BUNDLE_CERTIFICATE: "Sign with a key that the policy names; certificates are not supported yet.",
};

function refuse(code: ErrorCode, message: string, bundle: Digest, more: Record<string, unknown> = {}): never {
  return fail(code, message, {
    remedy: remedies[code] ?? "Fetch the bundle again; if it stays like this, ask its publisher for a new one.",
    details: { bundle, ...more },
  });
}

/**
 * Verifies a Sigstore bundle under the strict profile: media type exactly v0.3, one DSSE signature by a key of `keys`
 * that is valid at `now`, over an in-toto statement (v0.1 or v1). The bundle's own say on which key to use is only a
 * lookup by fingerprint; nothing else in it that is not signed has any effect.
 *
 * Throws KL_BUNDLE_TOO_LARGE, _MALFORMED, _MEDIA_TYPE, _CERTIFICATE, _MATERIAL, _CONTENT, _UNSIGNED, _SIGNATURES,
 * _KEYID, _PAYLOAD_TYPE, _UNKNOWN_KEY, _SIGNATURE, _KEY_WINDOW, _STATEMENT; never anything else.
 */
export function verifyBundle(
  bytes: Uint8Array,
  { keys, now }: { readonly keys: Iterable<TrustedKey>; readonly now: Date },
): SignedStatement {
  const bundleDigest = digestOf(bytes);
  // The one boundary: whatever a library throws on hostile input leaves here with a code.
  try {
    const { json, envelope, hint } = readBundle(bytes, bundleDigest);
    const key = findKey(keys, hint, bundleDigest);
    checkSignature(json, key, bundleDigest);
    checkWindow(key, now, bundleDigest);
    const payload = Buffer.from(envelope.payload, "base64");
    return {
      signer: { fingerprint: key.fingerprint, keyId: key.id },
      payloadDigest: digestOf(payload),
      bundleDigest,
      bundleSize: bytes.byteLength,
      statement: readStatement(payload, bundleDigest),
    };
  } catch (error) {
    if (error instanceof KernlockError && error.code.startsWith("KL_BUNDLE_")) throw error;
    const why = error instanceof KernlockError ? `: ${error.message.replace(/\.$/, "")}` : "";
    return refuse("KL_BUNDLE_MALFORMED", `The bundle cannot be read${why}.`, bundleDigest);
  }
}

function readBundle(bytes: Uint8Array, digest: Digest) {
  if (bytes.byteLength > limits.bundleBytes) {
    refuse("KL_BUNDLE_TOO_LARGE", `The bundle has more than ${limits.bundleBytes} bytes.`, digest);
  }
  const json = parseStrictJson(bytes, { maxBytes: limits.bundleBytes, maxDepth: limits.depth, what: "bundle" });
  const parsed = bundleSchema.safeParse(json);
  if (!parsed.success) {
    return refuse(
      "KL_BUNDLE_MALFORMED",
      `The bundle is not of the expected form: ${firstIssue(parsed.error)}.`,
      digest,
    );
  }
  const { mediaType, verificationMaterial: material, dsseEnvelope, messageSignature } = parsed.data;
  // Exactly v0.3: the library takes look-alikes, and an older label would switch off some of its checks.
  if (mediaType !== bundleMediaType)
    refuse("KL_BUNDLE_MEDIA_TYPE", "The bundle is not a Sigstore bundle v0.3.", digest);
  // The signer of a bundle may not choose how it is judged: only keys are, and only one kind of material is there.
  if (material.certificate !== undefined || material.x509CertificateChain !== undefined) {
    refuse("KL_BUNDLE_CERTIFICATE", "The bundle rests on a certificate.", digest);
  }
  if (material.publicKey === undefined) refuse("KL_BUNDLE_MALFORMED", "The bundle names no key.", digest);
  if (material.tlogEntries?.length || material.timestampVerificationData?.rfc3161Timestamps?.length) {
    refuse("KL_BUNDLE_MATERIAL", "The bundle holds log entries or timestamps, which cannot be checked yet.", digest);
  }
  if (dsseEnvelope === undefined || messageSignature !== undefined) {
    return refuse("KL_BUNDLE_CONTENT", "The bundle holds no DSSE envelope, or something besides it.", digest);
  }
  const [signature, ...others] = dsseEnvelope.signatures;
  if (signature === undefined || signature.sig === "")
    return refuse("KL_BUNDLE_UNSIGNED", "The bundle is unsigned.", digest);
  if (others.length > 0) refuse("KL_BUNDLE_SIGNATURES", "The bundle holds more than one signature.", digest);
  // Nobody signs the keyid; other verifiers refuse a wrong one, so nobody may come to rely on it.
  if (signature.keyid) refuse("KL_BUNDLE_KEYID", "The bundle's signature has a keyid.", digest);
  if (dsseEnvelope.payloadType !== payloadType) {
    refuse("KL_BUNDLE_PAYLOAD_TYPE", "What the bundle signs is not declared as an in-toto statement.", digest);
  }
  return { json, envelope: dsseEnvelope, hint: material.publicKey?.hint ?? "" };
}

/** By a Map, since the hint is attacker-controlled: names like `__proto__` find nothing here. */
function findKey(keys: Iterable<TrustedKey>, hint: string, digest: Digest): TrustedKey {
  const byFingerprint = new Map<string, TrustedKey>();
  for (const key of keys) byFingerprint.set(key.fingerprint, key);
  const raw = Buffer.from(hint, "base64");
  const fingerprint = `sha256:${raw.toString("hex")}`;
  const key = raw.toString("base64") === hint ? byFingerprint.get(fingerprint) : undefined;
  return (
    key ??
    refuse("KL_BUNDLE_UNKNOWN_KEY", "The bundle is signed by a key that the policy does not name.", digest, {
      signer: raw.byteLength === 32 ? fingerprint : null,
    })
  );
}

function checkSignature(json: unknown, key: TrustedKey, digest: Digest): void {
  // No roots and no thresholds: this trust material can find exactly the one key that was looked up above.
  const verifier = new Verifier(
    {
      certificateAuthorities: [],
      timestampAuthorities: [],
      tlogs: [],
      ctlogs: [],
      publicKey: () => ({ publicKey: key.publicKey, validFor: () => true }),
    },
    { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 },
  );
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(json)));
  } catch {
    refuse("KL_BUNDLE_SIGNATURE", "The signature does not hold for the statement in the bundle.", digest, {
      signer: key.fingerprint,
    });
  }
}

function checkWindow(key: TrustedKey, now: Date, digest: Digest): void {
  const early = key.validFrom !== undefined && now < key.validFrom;
  const late = key.validUntil !== undefined && now >= key.validUntil;
  // A clock that is no date compares false with everything, which must not read as "valid".
  if (Number.isNaN(now.getTime()) || early || late) {
    refuse("KL_BUNDLE_KEY_WINDOW", `The key "${key.id}" is ${early ? "not valid yet" : "no longer valid"}.`, digest, {
      signer: key.fingerprint,
      validFrom: key.validFrom?.toISOString() ?? null,
      validUntil: key.validUntil?.toISOString() ?? null,
    });
  }
}

function readStatement(payload: Uint8Array, digest: Digest): Statement {
  let json: unknown;
  try {
    json = parseStrictJson(payload, { maxBytes: limits.bundleBytes, maxDepth: limits.depth, what: "statement" });
  } catch {
    return refuse("KL_BUNDLE_STATEMENT", "What the bundle signs is not strict JSON.", digest);
  }
  const parsed = statementSchema.safeParse(json);
  if (!parsed.success) {
    return refuse(
      "KL_BUNDLE_STATEMENT",
      `What the bundle signs is no in-toto statement: ${firstIssue(parsed.error)}.`,
      digest,
    );
  }
  return parsed.data as Statement;
}
