import { expect, test } from "vitest";
import { verifyBundle } from "../../verify.ts";
import { email, uri } from "../authorities/certificates.ts";
import { bytesOf, identity, newBundle, newLeaf, newWorld, san, signedAt, trustedRoot } from "../authorities/index.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const root = trustedRoot(world);

/** A certificate with these names, judged by a policy that names `wanted`. */
function judged(names: Buffer[], wanted = san) {
  const bundle = newBundle({
    leaf: newLeaf(world, { names }),
    stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
    entries: (signed) => [world.log.entry(signed)],
  });
  return codeOf(() => verifyBundle(bytesOf(bundle), { keys: [], identities: [identity(root, { san: wanted })], now }));
}

test("G2: names are compared character for character", () => {
  expect(judged([uri(san)])).toBe("no refusal");
  for (const alike of [`${san}x`, `x${san}`, san.replace(".", "-"), san.toUpperCase(), `${san}/`, `${san} `]) {
    expect(judged([uri(alike)]), alike).toBe("KL_BUNDLE_IDENTITY");
  }
  for (const pattern of [".*", "https://ci.example/.*", "ci.example", "*"]) {
    expect(judged([uri(san)], pattern), pattern).toBe("KL_BUNDLE_IDENTITY");
  }
});

test("G2: a certificate has one name, or it names nobody", () => {
  expect(judged([uri(san), email("a@b.example")])).toBe("KL_BUNDLE_CERTIFICATE_NAME");
  expect(judged([email("a@b.example"), uri(san)])).toBe("KL_BUNDLE_CERTIFICATE_NAME");
  expect(judged([])).toBe("KL_BUNDLE_CERTIFICATE_NAME");
  expect(judged([email("a@b.example")], "a@b.example")).toBe("no refusal");
  expect(judged([uri(`${san}\u0000.evil`)])).toBe("KL_BUNDLE_MALFORMED");
});
