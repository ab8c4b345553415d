import { expect, test } from "vitest";
import { verifySigstore } from "../../sigstore/index.ts";
import { verifyBundle } from "../../verify.ts";
import { seq } from "../authorities/der.ts";
import {
  bytesOf,
  identity,
  issuer,
  type Loose,
  newBundle,
  newLeaf,
  newWorld,
  san,
  signedAt,
  trustedRoot,
} from "../authorities/index.ts";
import { newKey, now, trusted } from "../material.ts";

const world = newWorld();
const root = trustedRoot(world);
const good = newBundle({
  leaf: newLeaf(world),
  stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
  entries: (signed) => [world.log.entry(signed), world.oldLog.promised(signed, signedAt)],
});
const b64 = (text: string) => Buffer.from(text).toString("base64");

/** DER sequences inside each other, as deep as their lengths allow. */
function nested(depth: number): Buffer {
  let der: Buffer = Buffer.alloc(0);
  for (let i = 0; i < depth && der.length < 65_000; i++) der = seq(der);
  return der;
}

/** Each puts something into the bundle on which some parser is known, or likely, to stumble. */
const hostile: ((bundle: Loose) => void)[] = [
  (b) => (b.verificationMaterial = { publicKey: { hint: "__proto__" } }),
  (b) => (b.verificationMaterial = { publicKey: { hint: "constructor" } }),
  (b) => (b.verificationMaterial.certificate.rawBytes = ""),
  (b) => (b.verificationMaterial.certificate.rawBytes = "MAA="),
  (b) => (b.verificationMaterial.certificate.rawBytes = Buffer.alloc(100, 0x30).toString("base64")),
  (b) => (b.verificationMaterial.certificate.rawBytes = nested(4000).toString("base64")),
  (b) => (b.verificationMaterial.certificate.rawBytes = Buffer.alloc(1 << 20).toString("base64")),
  (b) =>
    (b.verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp =
      nested(4000).toString("base64")),
  (b) => (b.verificationMaterial.tlogEntries = []),
  (b) => (b.verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp = ""),
  (b) => (b.verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp = "MAA="),
  (b) => (b.verificationMaterial.timestampVerificationData.rfc3161Timestamps[0].signedTimestamp = "MIAAAA=="),
  ...["", "{", "null", "[]", '{"kind":"hashedrekord","apiVersion":"0.0.2"}', '{"__proto__":1}'].map(
    (body) => (b: Loose) => (b.verificationMaterial.tlogEntries[0].canonicalizedBody = b64(body)),
  ),
  ...["", "\n\n", "a\nb\nc\n\n\u2014 a AAAAAAAA\n", "log.example\n-1\nAAAA\n\n\u2014 log.example AAAAAAAA\n"].map(
    (note) => (b: Loose) => (b.verificationMaterial.tlogEntries[0].inclusionProof.checkpoint.envelope = note),
  ),
  (b) => (b.verificationMaterial.tlogEntries[0].inclusionProof.logIndex = "9223372036854775807"),
  (b) => (b.verificationMaterial.tlogEntries[0].inclusionProof.logIndex = "99999999999999999999"),
  (b) => (b.verificationMaterial.tlogEntries[1].integratedTime = "9223372036854775807"),
  (b) => (b.verificationMaterial.tlogEntries[0].inclusionProof.hashes = Array(65).fill("AAAA")),
  (b) => (b.dsseEnvelope.payload = b64("[]")),
  (b) => (b.dsseEnvelope.signatures[0].sig = "AAAA"),
  (b) => (b.verificationMaterial = null),
  (b) => (b.dsseEnvelope = []),
];

test.each(hostile.map((change) => [change]))("G11: %s", (change) => {
  const bundle = structuredClone(good);
  change(bundle);
  const calls = [
    () => verifyBundle(bytesOf(bundle), { keys: [trusted(newKey())], identities: [identity(root)], now }),
    () =>
      verifySigstore(bytesOf(bundle), {
        signer: { identity: san, issuer },
        root,
        artifact: { bytes: Buffer.from("a") },
        now,
      }),
  ];
  for (const call of calls) {
    expect(call).toThrow(
      expect.objectContaining({
        name: "KernlockError",
        code: expect.stringMatching(/^KL_BUNDLE_/),
        details: expect.objectContaining({ bundle: expect.stringMatching(/^sha256:/) }),
      }),
    );
  }
});
