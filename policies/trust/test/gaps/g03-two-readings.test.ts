import { expect, test } from "vitest";
import { verifyBundle } from "../../verify.ts";
import { newPair } from "../authorities/certificates.ts";
import {
  bytesOf,
  identity,
  type Loose,
  newBundle,
  newLeaf,
  newWorld,
  signedAt,
  trustedRoot,
} from "../authorities/index.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const identities = [identity(trustedRoot(world))];
const good = newBundle({
  leaf: newLeaf(world),
  stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
  entries: (signed) => [world.log.entry(signed)],
});
const verify = (bytes: Uint8Array) => codeOf(() => verifyBundle(bytes, { keys: [], identities, now }));
const edited = (change: (bundle: Loose) => void) => {
  const bundle = structuredClone(good);
  change(bundle);
  return verify(bytesOf(bundle));
};

test("G3: a bundle cannot choose by being read in two ways", () => {
  expect(verify(bytesOf(good))).toBe("no refusal");
  const { hint } = newBundle({ pair: newPair() }).verificationMaterial.publicKey;
  expect(edited((b) => (b.verificationMaterial.publicKey = { hint }))).toBe("KL_BUNDLE_MATERIAL");
  expect(
    edited(
      (b) => (b.verificationMaterial.x509CertificateChain = { certificates: [b.verificationMaterial.certificate] }),
    ),
  ).toBe("KL_BUNDLE_MATERIAL");
  const message = { messageDigest: { algorithm: "SHA2_256", digest: "AAAA" }, signature: "AAAA" };
  expect(edited((b) => (b.messageSignature = message))).toBe("KL_BUNDLE_CONTENT");
  expect(edited((b) => (b.verificationMaterial.tlogEntries[0].extra = 1))).toBe("KL_BUNDLE_MALFORMED");
  expect(edited((b) => (b.dsseEnvelope.signatures[0].sig += "\n"))).toBe("KL_BUNDLE_MALFORMED");
  expect(edited((b) => (b.verificationMaterial.certificate.rawBytes += "="))).toBe("KL_BUNDLE_MALFORMED");
  expect(verify(Buffer.from(bytesOf(good).toString().replace("{", '{"mediaType":"x",')))).toBe("KL_BUNDLE_MALFORMED");
});

test("G3: a chain in place of a certificate is not v0.3", () => {
  const chain = (b: Loose) => {
    b.verificationMaterial.x509CertificateChain = { certificates: [b.verificationMaterial.certificate] };
    delete b.verificationMaterial.certificate;
  };
  expect(edited(chain)).toBe("KL_BUNDLE_CERTIFICATE");
});
