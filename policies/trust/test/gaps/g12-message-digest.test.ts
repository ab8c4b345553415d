import { createHash, sign } from "node:crypto";
import { expect, test } from "vitest";
import { trustedKey } from "../../keys.ts";
import { verifySigstore } from "../../sigstore/index.ts";
import { verifyBundle } from "../../verify.ts";
import { newPair, spki } from "../authorities/certificates.ts";
import { bytesOf, type Loose, newBundle, newWorld, signedAt, trustedRoot } from "../authorities/index.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const root = trustedRoot(world);
const pair = newPair();
const artifact = Buffer.from("an artifact");
const digest = createHash("sha256").update(artifact).digest();
const signature = sign("sha256", artifact, pair.privateKey);
const signed = { preimage: artifact, payload: artifact, signature, key: spki(pair.publicKey) };

/** A message signature by a key, with a log entry and a timestamp. */
const good: Loose = newBundle({ pair, stamps: () => [world.tsa.stamp(signature, signedAt)] });
delete good.dsseEnvelope;
good.verificationMaterial.tlogEntries = [world.log.entry(signed)];
good.messageSignature = {
  messageDigest: { algorithm: "SHA2_256", digest: digest.toString("base64") },
  signature: signature.toString("base64"),
};

const judged = (bundle: Loose, given: Parameters<typeof verifySigstore>[1]["artifact"]) =>
  codeOf(() => verifySigstore(bytesOf(bundle), { signer: { key: pair.publicKey }, root, artifact: given, now }));
const edited = (change: (message: Loose) => void) => {
  const bundle = structuredClone(good);
  change(bundle.messageSignature);
  return bundle;
};

test("G12: a message's digest in the bundle is compared with the artifact's own", () => {
  expect(judged(good, { bytes: artifact })).toBe("no refusal");
  expect(judged(good, { digest })).toBe("no refusal");
  const other = edited((m) => (m.messageDigest.digest = Buffer.alloc(32, 1).toString("base64")));
  expect(judged(other, { bytes: artifact })).toBe("KL_BUNDLE_ARTIFACT");
  expect(judged(other, { digest: Buffer.alloc(32, 1) })).toBe("KL_BUNDLE_SIGNATURE");
  expect(judged(good, { bytes: Buffer.from("another artifact") })).toBe("KL_BUNDLE_ARTIFACT");
  expect(
    judged(
      edited((m) => (m.messageDigest.algorithm = "SHA2_512")),
      { digest },
    ),
  ).toBe("KL_BUNDLE_CONTENT");
});

test("G12: message signatures are unknown to the profile that loads and publishes", () => {
  const keys = [trustedKey("k", pair.publicKey.export({ type: "spki", format: "pem" }) as string)];
  expect(codeOf(() => verifyBundle(bytesOf(good), { keys, anchor: { root }, now }))).toBe("KL_BUNDLE_CONTENT");
});
