import { X509Certificate } from "node:crypto";
import { parseStrictJson } from "@kernlock/kernels/format";
import { z } from "zod";
import { bundleMediaType, payloadType } from "../create.ts";
import { firstIssue } from "../shape.ts";
import { refuse } from "./refusal.ts";

/**
 * What may be in a bundle. `kernlock`: v0.3, DSSE. `sigstore`: whatever the public conformance suite accepts, for
 * `verify-bundle` alone.
 */
export type Profile = "kernlock" | "sigstore";

/** The signer's own say on how it is to be verified: a lookup, never a decision. */
export type Material =
  | { readonly kind: "key"; readonly hint: string }
  | { readonly kind: "certificate"; readonly der: Buffer };

export interface DsseContent {
  readonly kind: "dsse";
  readonly payload: Buffer;
  readonly signature: Buffer;
}

export interface MessageContent {
  readonly kind: "message";
  /** sha256. */
  readonly digest: Buffer;
  readonly signature: Buffer;
}

export interface LogEntry {
  readonly logIndex: bigint;
  readonly logId: Buffer;
  readonly kind: string;
  readonly version: string;
  /** Unix seconds, 0 where absent; proved only by a promise. */
  readonly integratedTime: number;
  readonly promised: boolean;
  readonly proof?: {
    readonly logIndex: bigint;
    readonly rootHash: Buffer;
    readonly treeSize: bigint;
    readonly checkpoint: string;
  };
  readonly body: Buffer;
}

export interface ParsedBundle {
  /** For the library, which reads it again; every field of it is one that the schema below knows. */
  readonly json: unknown;
  readonly material: Material;
  readonly content: DsseContent | MessageContent;
  readonly entries: readonly LogEntry[];
  readonly timestamps: number;
}

export const limits = { bytes: 4 << 20, depth: 32, entries: 16 };

const mediaTypes: Readonly<Record<Profile, readonly string[]>> = {
  kernlock: [bundleMediaType],
  sigstore: [
    bundleMediaType,
    "application/vnd.dev.sigstore.bundle+json;version=0.1",
    "application/vnd.dev.sigstore.bundle+json;version=0.2",
    "application/vnd.dev.sigstore.bundle+json;version=0.3",
  ],
};

/** Standard base64 with padding, in the one spelling that its bytes have; bounded, since parsers of DER recurse. */
const base64UpTo = (bytes: number) =>
  z
    .string()
    .max(Math.ceil(bytes / 3) * 4)
    .refine((text) => Buffer.from(text, "base64").toString("base64") === text, "not base64")
    .transform((text) => Buffer.from(text, "base64"));
export const base64 = base64UpTo(1 << 16);

/** A 64-bit integer as protobuf's JSON writes it; not below zero. */
const integer = z
  .string()
  .regex(/^(0|[1-9][0-9]{0,18})$/)
  .transform(BigInt)
  .refine((value) => value < 1n << 63n, "too large");

const entrySchema = z.strictObject({
  logIndex: integer.default(0n),
  logId: z.strictObject({ keyId: base64 }),
  kindVersion: z.strictObject({ kind: z.string(), version: z.string() }),
  integratedTime: integer.default(0n),
  inclusionPromise: z.strictObject({ signedEntryTimestamp: base64 }).optional(),
  inclusionProof: z
    .strictObject({
      logIndex: integer.default(0n),
      rootHash: base64,
      treeSize: integer,
      hashes: z.array(base64).max(64).optional(),
      checkpoint: z.strictObject({ envelope: z.string() }).optional(),
    })
    .optional(),
  canonicalizedBody: base64UpTo(limits.bytes),
});

const certificate = z.strictObject({ rawBytes: base64UpTo(1 << 14) });

// Both halves of each "one of" are let through here, so that choosing the wrong one gets its own code below.
const bundleSchema = z.strictObject({
  mediaType: z.string(),
  verificationMaterial: z.strictObject({
    publicKey: z.strictObject({ hint: z.string().max(256).optional() }).optional(),
    certificate: certificate.optional(),
    x509CertificateChain: z.strictObject({ certificates: z.array(certificate).max(limits.entries) }).optional(),
    tlogEntries: z.array(entrySchema).max(limits.entries).optional(),
    timestampVerificationData: z
      .strictObject({
        rfc3161Timestamps: z
          .array(z.strictObject({ signedTimestamp: base64UpTo(1 << 14) }))
          .max(limits.entries)
          .optional(),
      })
      .optional(),
  }),
  dsseEnvelope: z
    .strictObject({
      payload: base64UpTo(limits.bytes),
      payloadType: z.string(),
      signatures: z.array(z.strictObject({ sig: base64, keyid: z.string().optional() })),
    })
    .optional(),
  messageSignature: z
    .strictObject({
      messageDigest: z.strictObject({ algorithm: z.string(), digest: base64 }),
      signature: base64,
    })
    .optional(),
});
type Raw = z.infer<typeof bundleSchema>;

/** Strict JSON of a strict shape (G3, G4), with no two readings of anything in it. Throws KL_BUNDLE_* or KL_JSON_*. */
export function parseBundle(bytes: Uint8Array, profile: Profile): ParsedBundle {
  if (bytes.byteLength > limits.bytes) {
    refuse("KL_BUNDLE_TOO_LARGE", `The bundle has more than ${limits.bytes} bytes.`);
  }
  const json = parseStrictJson(bytes, { maxBytes: limits.bytes, maxDepth: limits.depth, what: "bundle" });
  const parsed = bundleSchema.safeParse(json);
  if (!parsed.success) {
    return refuse("KL_BUNDLE_MALFORMED", `The bundle is not of the expected form: ${firstIssue(parsed.error)}.`);
  }
  // Exactly one of the known names: the library takes look-alikes, and an older label switches off some of its checks.
  if (!mediaTypes[profile].includes(parsed.data.mediaType)) {
    refuse(
      "KL_BUNDLE_MEDIA_TYPE",
      `The bundle is not a Sigstore bundle ${profile === "kernlock" ? "v0.3" : "we know"}.`,
    );
  }
  const entries = (parsed.data.verificationMaterial.tlogEntries ?? []).map(readEntry);
  checkEntries(entries, parsed.data.mediaType);
  return {
    json,
    material: readMaterial(parsed.data, profile),
    content: readContent(parsed.data, profile),
    entries,
    timestamps: parsed.data.verificationMaterial.timestampVerificationData?.rfc3161Timestamps?.length ?? 0,
  };
}

/** One kind only: where two are present, each reader could take another one. */
function readMaterial({ verificationMaterial: material }: Raw, profile: Profile): Material {
  const { publicKey, certificate, x509CertificateChain: chain } = material;
  const kinds = [publicKey, certificate, chain].filter((kind) => kind !== undefined).length;
  if (kinds === 0) refuse("KL_BUNDLE_MALFORMED", "The bundle names neither a key nor a certificate.");
  if (kinds > 1) refuse("KL_BUNDLE_MATERIAL", "The bundle rests on more than one kind of key material.");
  if (publicKey !== undefined) return { kind: "key", hint: publicKey.hint ?? "" };
  if (chain !== undefined && profile === "kernlock") {
    refuse("KL_BUNDLE_CERTIFICATE", "The bundle holds a certificate chain where v0.3 has one certificate.");
  }
  // Only the leaf of a chain is used: what it leads to is the trusted root's to say.
  const der = certificate?.rawBytes ?? chain?.certificates[0]?.rawBytes;
  if (der === undefined) return refuse("KL_BUNDLE_CERTIFICATE", "The bundle's certificate chain is empty.");
  for (const { rawBytes } of chain?.certificates ?? []) {
    const certificate = new X509Certificate(rawBytes);
    if (certificate.checkIssued(certificate)) {
      refuse("KL_BUNDLE_CERTIFICATE", "The bundle brings a root certificate, which is the trusted root's to say.");
    }
  }
  return { kind: "certificate", der };
}

function readContent({ dsseEnvelope, messageSignature }: Raw, profile: Profile): DsseContent | MessageContent {
  if ((dsseEnvelope === undefined) === (messageSignature === undefined)) {
    refuse("KL_BUNDLE_CONTENT", "The bundle holds no signed content, or two.");
  }
  if (messageSignature !== undefined) {
    if (profile === "kernlock")
      refuse("KL_BUNDLE_CONTENT", "The bundle holds a message signature, not a DSSE envelope.");
    const { signature, messageDigest } = messageSignature;
    if (messageDigest.algorithm !== "SHA2_256" || messageDigest.digest.length !== 32) {
      refuse("KL_BUNDLE_CONTENT", "The bundle's message digest is not SHA-256.");
    }
    if (signature.length === 0) refuse("KL_BUNDLE_UNSIGNED", "The bundle is unsigned.");
    return { kind: "message", digest: messageDigest.digest, signature };
  }
  const { signatures, payload, payloadType: type } = dsseEnvelope!;
  const [signature, ...others] = signatures;
  if (signature === undefined || signature.sig.length === 0) {
    return refuse("KL_BUNDLE_UNSIGNED", "The bundle is unsigned.");
  }
  if (others.length > 0) refuse("KL_BUNDLE_SIGNATURES", "The bundle holds more than one signature.");
  // Nobody signs the keyid; other verifiers refuse a wrong one, so nobody may come to rely on it.
  if (signature.keyid && profile === "kernlock") refuse("KL_BUNDLE_KEYID", "The bundle's signature has a keyid.");
  if (type !== payloadType) {
    refuse("KL_BUNDLE_PAYLOAD_TYPE", "What the bundle signs is not declared as an in-toto statement.");
  }
  return { kind: "dsse", payload, signature: signature.sig };
}

/** v0.1 rests on the log's promise, later versions on a proof up to a checkpoint (G4). */
function checkEntries(entries: readonly LogEntry[], mediaType: string): void {
  for (const { promised, proof } of entries) {
    if (mediaType.endsWith("version=0.1") ? !promised : !proof?.checkpoint) {
      refuse("KL_BUNDLE_CHECKPOINT", "A log entry of the bundle lacks the proof that this version of bundles demands.");
    }
  }
}

function readEntry(raw: z.infer<typeof entrySchema>): LogEntry {
  const proof = raw.inclusionProof;
  return {
    logIndex: raw.logIndex,
    logId: raw.logId.keyId,
    kind: raw.kindVersion.kind,
    version: raw.kindVersion.version,
    integratedTime: Number(raw.integratedTime),
    promised: raw.inclusionPromise !== undefined,
    ...(proof
      ? {
          proof: {
            logIndex: proof.logIndex,
            rootHash: proof.rootHash,
            treeSize: proof.treeSize,
            checkpoint: proof.checkpoint?.envelope ?? "",
          },
        }
      : {}),
    body: raw.canonicalizedBody,
  };
}
