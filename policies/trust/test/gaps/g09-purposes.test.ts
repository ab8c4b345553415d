import { expect, test } from "vitest";
import { verifyBundle } from "../../verify.ts";
import { type CertificateParts, usage } from "../authorities/certificates.ts";
import {
  bytesOf,
  identity,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  signedAt,
  stockAccepts,
  trustedRoot,
} from "../authorities/index.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const bundled = (parts: Partial<CertificateParts>) =>
  newBundle({
    leaf: newLeaf(world, parts),
    stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
    entries: (signed) => [world.log.entry(signed)],
  });
const judged = (parts: Partial<CertificateParts>) => {
  const identities = [identity(trustedRoot(world))];
  return codeOf(() => verifyBundle(bytesOf(bundled(parts)), { keys: [], identities, now }));
};

test("G9: a certificate signs kernels only if it is one for signing code", () => {
  const stamping = { purposes: [usage.timeStamping] };
  expect(stockAccepts(bundled(stamping), newRoot(world))).toBe(true);
  expect(judged({})).toBe("no refusal");
  expect(judged(stamping)).toBe("KL_BUNDLE_CERTIFICATE_USE");
  expect(judged({ purposes: [] })).toBe("KL_BUNDLE_CERTIFICATE_USE");
  expect(judged({ purposes: ["2.5.29.37.0"] })).toBe("KL_BUNDLE_CERTIFICATE_USE");
  expect(judged({ keyUsage: 0x20 })).toBe("KL_BUNDLE_CERTIFICATE_USE");
  expect(judged({ ca: true })).toBe("KL_BUNDLE_CERTIFICATE_USE");
  expect(judged({ ca: true, keyUsage: 0x86 })).toBe("KL_BUNDLE_CERTIFICATE_USE");
  expect(judged({ purposes: [usage.timeStamping, usage.codeSigning] })).toBe("no refusal");
});
