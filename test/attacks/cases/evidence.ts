import { sign } from "node:crypto";
import { digestOf } from "@kernlock/kernels/format";
import { payloadType } from "@kernlock/policies/trust";
import { policyText, rule, type TestKey } from "../../../policies/trust/test/material.ts";
import { source } from "../../../registry-server/test/material.ts";
import { type Attack, type Edit, everywhere, type Keys, type Loose, type Twist } from "../attack.ts";
import { v3, v4 } from "../pack.ts";

type Row = [
  number: Attack["number"],
  name: string,
  refused: `KL_${string}` | Attack["refused"],
  how: Twist | ((keys: Keys) => Twist),
];

const b64 = (bytes: Uint8Array | string) => Buffer.from(bytes).toString("base64");
const text = (bundle: Loose) => JSON.stringify(bundle);

/** Signs an envelope anew after a change, as the trusted key would. */
function resigned(key: TestKey, change: (envelope: Loose) => void): Edit {
  return (bundle) => {
    const envelope = bundle.dsseEnvelope;
    change(envelope);
    const payload = Buffer.from(envelope.payload, "base64");
    const head = `DSSEv1 ${Buffer.byteLength(envelope.payloadType)} ${envelope.payloadType} ${payload.length} `;
    envelope.signatures = [{ sig: b64(sign("sha256", Buffer.concat([Buffer.from(head), payload]), key.privateKey)) }];
  };
}

const window = (validFrom?: string, validUntil?: string) => (keys: Keys) => ({
  policy: () =>
    policyText(
      {
        publisher: {
          pem: keys.publisher.pem,
          ...(validFrom === undefined ? {} : { validFrom }),
          ...(validUntil === undefined ? {} : { validUntil }),
        },
      },
      rule({ source: source.repository }),
    ),
});

const parameters = (change: (p: Loose, predicate: Loose) => unknown): Twist => ({
  statement: (s) => change(s.predicate.buildDefinition.externalParameters, s.predicate),
});
const hint = (value: unknown): Twist => ({ bundle: (b) => (b.verificationMaterial.publicKey.hint = value) });
const subjects = (change: (s: Loose) => unknown): Twist => ({ statement: (s) => change(s) });
const about = (digest: string) => [{ name: "acme/norm", digest: { sha256: digest.slice(7) } }];

const rows: Row[] = [
  [26, "no signature at all", "KL_BUNDLE_UNSIGNED", { bundle: (b) => (b.dsseEnvelope.signatures = []) }],
  [26, "an empty signature", "KL_BUNDLE_UNSIGNED", { bundle: (b) => (b.dsseEnvelope.signatures[0].sig = "") }],
  [26, "no bundle about the index", "KL_VERDICT_MISSING", { evidence: (pack) => pack.evidence.slice(1) }],
  [26, "no bundle about one variant", "KL_VERDICT_MISSING", { evidence: (pack) => pack.evidence.slice(0, 2) }],
  ["own", "another signer than any that the policy names", "KL_BUNDLE_UNKNOWN_KEY", ({ other }) => ({ signer: other })],
  [
    "own",
    "another key's signature under the trusted key's hint",
    "KL_BUNDLE_SIGNATURE",
    ({ other }) => ({ bundle: resigned(other, () => {}) }),
  ],
  [27, "a statement about another digest", "KL_VERDICT_SUBJECT", subjects((s) => (s.subject = about(digestOf("x"))))],
  [
    27,
    "a statement about another name with the right digest",
    "KL_VERDICT_SUBJECT",
    subjects((s) => (s.subject[0].name = "acme/other")),
  ],
  [
    27,
    "a statement about a name in other case",
    "KL_VERDICT_SUBJECT",
    subjects((s) => (s.subject[0].name = "acme/Norm")),
  ],
  [
    28,
    "two subjects, the right one among them",
    "KL_VERDICT_SUBJECT",
    subjects((s) => s.subject.push(...about(digestOf("x")))),
  ],
  [
    29,
    "a subject with SHA-1 only",
    "KL_VERDICT_SUBJECT",
    subjects((s) => (s.subject[0].digest = { sha1: "0".repeat(40) })),
  ],
  [
    29,
    "a subject with MD5 besides SHA-256",
    "KL_VERDICT_SUBJECT",
    subjects((s) => (s.subject[0].digest.md5 = "0".repeat(32))),
  ],
  [29, "a subject without any digest", "KL_VERDICT_SUBJECT", subjects((s) => (s.subject[0].digest = {}))],
  [
    "own",
    "a subject whose digest is in capitals",
    "KL_VERDICT_SUBJECT",
    subjects((s) => (s.subject[0].digest.sha256 = s.subject[0].digest.sha256.toUpperCase())),
  ],
  [
    30,
    "another payload type, signed by the trusted key",
    "KL_BUNDLE_PAYLOAD_TYPE",
    ({ publisher }) => ({ bundle: resigned(publisher, (e) => (e.payloadType = "text/plain")) }),
  ],
  [
    30,
    "a payload type with a parameter, signed by the trusted key",
    "KL_BUNDLE_PAYLOAD_TYPE",
    ({ publisher }) => ({ bundle: resigned(publisher, (e) => (e.payloadType = `${payloadType};v=1`)) }),
  ],
  [
    31,
    "an audit passed off as provenance",
    "KL_VERDICT_PREDICATE",
    { statement: (s) => (s.predicateType = "https://kernlock.dev/attestation/audit/v1") },
  ],
  [
    31,
    "provenance of SLSA v0.2",
    "KL_VERDICT_PREDICATE",
    { statement: (s) => (s.predicateType = "https://slsa.dev/provenance/v0.2") },
  ],
  [32, "a message signature where an envelope is due", "KL_BUNDLE_CONTENT", { bundle: messageSignature }],
  [
    32,
    "a message signature besides the envelope",
    "KL_BUNDLE_CONTENT",
    { bundle: (b) => (b.messageSignature = message()) },
  ],
  [
    33,
    "two signatures",
    "KL_BUNDLE_SIGNATURES",
    { bundle: (b) => b.dsseEnvelope.signatures.push(b.dsseEnvelope.signatures[0]) },
  ],
  [
    34,
    "key and certificate both",
    "KL_BUNDLE_MATERIAL",
    { bundle: (b) => (b.verificationMaterial.certificate = { rawBytes: "AA==" }) },
  ],
  [
    34,
    "a certificate chain where a key is due",
    "KL_BUNDLE_CERTIFICATE",
    { bundle: (b) => (b.verificationMaterial = { x509CertificateChain: { certificates: [] } }) },
  ],
  [35, "the hint __proto__", "KL_BUNDLE_UNKNOWN_KEY", hint("__proto__")],
  [35, "an unknown hint", "KL_BUNDLE_UNKNOWN_KEY", hint(b64(Buffer.alloc(32, 7)))],
  [35, "an empty hint", "KL_BUNDLE_UNKNOWN_KEY", hint("")],
  [35, "the policy's name of the key as its hint", "KL_BUNDLE_UNKNOWN_KEY", hint("publisher")],
  [
    36,
    "media type v0.9",
    "KL_BUNDLE_MEDIA_TYPE",
    { bundle: (b) => (b.mediaType = b.mediaType.replace("v0.3", "v0.9")) },
  ],
  [36, "a media type with a tail", "KL_BUNDLE_MEDIA_TYPE", { bundle: (b) => (b.mediaType += "x") }],
  [
    36,
    "a downgrade to v0.1",
    "KL_BUNDLE_MEDIA_TYPE",
    { bundle: (b) => (b.mediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1") },
  ],
  [
    37,
    "a bundle with one key twice",
    "KL_BUNDLE_MALFORMED",
    { bundle: (b) => Buffer.from(text(b).replace("{", '{"mediaType":"x",')) },
  ],
  [37, "a bundle with an unknown field", "KL_BUNDLE_MALFORMED", { bundle: (b) => (b.extra = 1) }],
  [37, "a bundle in lax base64", "KL_BUNDLE_MALFORMED", { bundle: (b) => (b.dsseEnvelope.payload += "\n") }],
  [37, "base64 with bits to spare, in the hint", "KL_BUNDLE_UNKNOWN_KEY", { bundle: slack }],
  [37, "a deeply nested bundle", "KL_BUNDLE_MALFORMED", { bundle: () => Buffer.from("[".repeat(100_000)) }],
  [
    37,
    "a bundle of five megabytes",
    {
      publish: "KL_REGISTRY_BLOB_TOO_LARGE",
      lock: "KL_BUNDLE_MALFORMED",
      verify: "KL_BUNDLE_TOO_LARGE",
      load: "KL_BUNDLE_TOO_LARGE",
    },
    { bundle: (b) => Buffer.from(text(b) + " ".repeat(5 << 20)) },
  ],
  [37, "bytes after the bundle", "KL_BUNDLE_MALFORMED", { bundle: (b) => Buffer.from(`${text(b)}{}`) }],
  [37, "a bundle in UTF-16", "KL_BUNDLE_MALFORMED", { bundle: (b) => Buffer.from(text(b), "utf16le") }],
  [
    37,
    "a byte order mark before the bundle",
    "KL_BUNDLE_MALFORMED",
    { bundle: (b) => Buffer.from(`\ufeff${text(b)}`) },
  ],
  [
    38,
    "a payload that was changed after signing",
    "KL_BUNDLE_SIGNATURE",
    {
      bundle: (b) =>
        (b.dsseEnvelope.payload = b64(
          Buffer.from(b.dsseEnvelope.payload, "base64")
            .toString()
            .replace("builder.example/one", "builder.example/two"),
        )),
    },
  ],
  [38, "a signature with a bit flipped", "KL_BUNDLE_SIGNATURE", { bundle: flipped }],
  [39, "a key that was retired", "KL_BUNDLE_KEY_WINDOW", window(undefined, "2026-11-01T00:00:00Z")],
  [39, "a key that is not valid yet", "KL_BUNDLE_KEY_WINDOW", window("2026-12-01T00:00:00Z")],
  [
    59,
    "a statement about one variant used for the other",
    "KL_VERDICT_SUBJECT",
    { evidence: (p) => [p.evidence[0]!, p.evidence[1]!, { ...p.evidence[1]!, subject: p.evidence[2]!.subject }] },
  ],
  [
    59,
    "a statement about a variant used for the index",
    "KL_VERDICT_SUBJECT",
    { evidence: (p) => [{ ...p.evidence[1]!, subject: p.evidence[0]!.subject }, ...p.evidence.slice(1)] },
  ],
  [
    62,
    "a bundle about the same name and version in another registry, with other bytes",
    "KL_VERDICT_SUBJECT",
    { statement: (s) => (s.subject = about(digestOf("the same version elsewhere"))) },
  ],
  [
    "own",
    "a variant's scope over the index's digest",
    "KL_VERDICT_SCOPE",
    parameters((p) => Object.assign(p, { scope: "variant", variant: v3 })),
  ],
  ["own", "the other variant's name over this variant's digest", "KL_VERDICT_SCOPE", { statement: otherVariant }],
  ["own", "a statement about another version", "KL_VERDICT_PARAMETERS", parameters((p) => (p.version = "0.9.0"))],
  ["own", "a statement about another package", "KL_VERDICT_PARAMETERS", parameters((p) => (p.package = "acme/other"))],
  [
    "own",
    "a builder that the policy does not allow",
    "KL_VERDICT_BUILDER",
    parameters((_, p) => (p.runDetails.builder.id = "https://builder.example/two")),
  ],
  ["own", "an allowed builder's id under a key that is not bound to it", "KL_VERDICT_BUILDER", foreignBuilder],
  [
    "own",
    "another source than the index names",
    "KL_VERDICT_SOURCE",
    parameters((p) => (p.source.repository = "https://git.example/fork")),
  ],
  [
    "own",
    "another revision than the index names",
    "KL_VERDICT_SOURCE",
    parameters((p) => (p.source.revision = "f".repeat(40))),
  ],
  [
    "own",
    "a source that the policy does not allow",
    "KL_VERDICT_SOURCE",
    { policy: ({ publisher }) => policyText({ publisher }, rule({ source: "https://git.example/other" })) },
  ],
  [
    "own",
    "a kernel that no rule is about",
    "KL_POLICY_NO_RULE",
    { policy: ({ publisher }) => policyText({ publisher }, rule({ match: "other/*", source: source.repository })) },
  ],
  ["own", "provenance without a builder", "KL_VERDICT_PREDICATE", parameters((_, p) => delete p.runDetails)],
  [
    "own",
    "an in-toto statement of version 2",
    "KL_BUNDLE_STATEMENT",
    { statement: (s) => (s._type = "https://in-toto.io/Statement/v2") },
  ],
  [
    "own",
    "a signed payload with one key twice",
    "KL_BUNDLE_STATEMENT",
    { statement: (s) => Buffer.from(text(s).replace("{", '{"_type":"x",')) },
  ],
  ["own", "a signed payload that is no JSON", "KL_BUNDLE_STATEMENT", { statement: () => Buffer.from("not JSON") }],
  ["own", "a signed payload with an unknown field", "KL_BUNDLE_STATEMENT", { statement: (s) => (s.extra = 1) }],
  [
    "own",
    "a signed payload with a thousand subjects",
    "KL_BUNDLE_STATEMENT",
    { statement: (s) => (s.subject = Array(1000).fill(s.subject[0])) },
  ],
  ["own", "a signed payload without a subject", "KL_BUNDLE_STATEMENT", { statement: (s) => (s.subject = []) }],
  [
    "own",
    "a keyid, which nobody signs",
    "KL_BUNDLE_KEYID",
    { bundle: (b) => (b.dsseEnvelope.signatures[0].keyid = "me") },
  ],
  [
    "own",
    "a timestamp that no root judges",
    "KL_BUNDLE_MATERIAL",
    {
      bundle: (b) =>
        (b.verificationMaterial.timestampVerificationData = { rfc3161Timestamps: [{ signedTimestamp: "MAA=" }] }),
    },
  ],
];

function message() {
  return { messageDigest: { algorithm: "SHA2_256", digest: b64(Buffer.alloc(32)) }, signature: "AA==" };
}

function messageSignature(bundle: Loose): void {
  delete bundle.dsseEnvelope;
  bundle.messageSignature = message();
}

/** The same bytes in another spelling: the last character before the padding has bits that decoders drop. */
function slack(bundle: Loose): void {
  const key = bundle.verificationMaterial.publicKey;
  const at = key.hint.indexOf("=") - 1;
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  key.hint = key.hint.slice(0, at) + alphabet[alphabet.indexOf(key.hint[at]) + 1] + key.hint.slice(at + 1);
}

function otherVariant(document: Loose, at: string): void {
  if (at === v3) document.predicate.buildDefinition.externalParameters.variant = v4;
}

function flipped(bundle: Loose): void {
  const signature = Buffer.from(bundle.dsseEnvelope.signatures[0].sig, "base64");
  signature[signature.length - 1]! ^= 1;
  bundle.dsseEnvelope.signatures[0].sig = b64(signature);
}

function foreignBuilder(keys: Keys): Twist {
  const { publisher, other } = keys;
  return {
    policy: () => policyText({ publisher, other }, rule({ builderKey: "other", source: source.repository })),
  };
}

export const evidenceAttacks: readonly Attack[] = rows.map(([number, name, refused, how]) => ({
  number,
  name,
  area: "evidence",
  refused: typeof refused === "string" ? everywhere(refused) : refused,
  how: (keys) => (typeof how === "function" ? how(keys) : how),
}));
