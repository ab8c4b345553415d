import { expect, test } from "vitest";
import { verifySigstore } from "../../sigstore/index.ts";
import { verifyBundle } from "../../verify.ts";
import {
  bytesOf,
  identity,
  issuer,
  newBundle,
  newLeaf,
  newRoot,
  newWorld,
  san,
  signedAt,
  stockAccepts,
  trustedRoot,
} from "../authorities/index.ts";
import { codeOf, now } from "../material.ts";

const world = newWorld();
const root = trustedRoot(world);
const bundle = newBundle({
  leaf: newLeaf(world),
  stamps: (signature) => [world.tsa.stamp(signature, signedAt)],
  entries: (signed) => [world.log.entry(signed)],
});

test("G1: nobody is accepted unless named; an empty name is nobody", () => {
  expect(stockAccepts(bundle, newRoot(world))).toBe(true);
  const code = (identities?: Parameters<typeof identity>[1][]) =>
    codeOf(() =>
      verifyBundle(bytesOf(bundle), {
        keys: [],
        ...(identities ? { identities: identities.map((parts) => identity(root, parts)) } : {}),
        now,
      }),
    );
  expect(code()).toBe("KL_BUNDLE_CERTIFICATE");
  expect(code([])).toBe("KL_BUNDLE_CERTIFICATE");
  expect(code([{ san: "" }])).toBe("KL_BUNDLE_IDENTITY");
  expect(code([{ issuer: "" }])).toBe("KL_BUNDLE_IDENTITY");
  expect(code([{ issuer: "https://other.example" }])).toBe("KL_BUNDLE_IDENTITY");
  expect(code([{}])).toBe("no refusal");
  const artifact = { digest: Buffer.alloc(32) };
  for (const signer of [
    { identity: "", issuer },
    { identity: san, issuer: "" },
  ]) {
    expect(codeOf(() => verifySigstore(bytesOf(bundle), { signer, root, artifact, now }))).toBe("KL_BUNDLE_IDENTITY");
  }
});
