import { describe, expect, test } from "vitest";
import { verifyBundle } from "../../verify.ts";
import {
  bytesOf,
  identity,
  type Loose,
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
const identities = [identity(trustedRoot(world))];
const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];
const leaf = newLeaf(world);
const bundles = {
  v2: newBundle({ leaf, stamps, entries: (signed) => [world.log.entry(signed)] }),
  v1: newBundle({ leaf, stamps, entries: (signed) => [world.oldLog.promised(signed, signedAt)] }),
};

const edited = (kind: keyof typeof bundles, change: (entry: Loose, bundle: Loose) => void) => {
  const bundle = structuredClone(bundles[kind]);
  change(bundle.verificationMaterial.tlogEntries[0], bundle);
  return bundle;
};
const verify = (bundle: Loose) => codeOf(() => verifyBundle(bytesOf(bundle), { keys: [], identities, now }));

describe("G10: what nobody signed decides nothing", () => {
  const cases: [string, keyof typeof bundles, boolean, string, (entry: Loose, bundle: Loose) => void][] = [
    ["the outer index", "v2", true, "KL_BUNDLE_UNBOUND", (e) => (e.logIndex = "6")],
    ["a time without a promise", "v2", true, "KL_BUNDLE_UNBOUND", (e) => (e.integratedTime = "1700000000")],
    ["the proof's tree size", "v2", true, "KL_BUNDLE_UNBOUND", (e) => (e.inclusionProof.treeSize = "99")],
    ["the proof's root hash", "v2", true, "KL_BUNDLE_UNBOUND", (e) => (e.inclusionProof.rootHash = "AAAA")],
    ["the keyid", "v2", true, "KL_BUNDLE_KEYID", (_, b) => (b.dsseEnvelope.signatures[0].keyid = "junk")],
    ["the outer index under a promise", "v1", false, "KL_BUNDLE_INCLUSION", (e) => (e.logIndex = "6")],
    ["the time under a promise", "v1", false, "KL_BUNDLE_INCLUSION", (e) => (e.integratedTime = "1780315501")],
    [
      "the proof's root hash under a promise",
      "v1",
      true,
      "KL_BUNDLE_UNBOUND",
      (e) => (e.inclusionProof.rootHash = "AAAA"),
    ],
    ["the proof's index", "v2", false, "KL_BUNDLE_INCLUSION", (e) => (e.inclusionProof.logIndex = "4")],
    ["the entry's kind", "v2", false, "KL_BUNDLE_LOG", (e) => (e.kindVersion.kind = "dsse")],
  ];
  test.each(cases)("%s", (_, kind, stock, code, change) => {
    const bundle = edited(kind, change);
    expect(verify(bundles[kind])).toBe("no refusal");
    expect(stockAccepts(bundle, newRoot(world))).toBe(stock);
    expect(verify(bundle)).toBe(code);
  });
});

test("G10: where other verifiers differ, all four are refused", () => {
  const body = edited("v2", (entry) => {
    const json = JSON.parse(Buffer.from(entry.canonicalizedBody, "base64").toString());
    json.spec.hashedRekordV002.data.digest = Buffer.alloc(32).toString("base64");
    entry.canonicalizedBody = Buffer.from(JSON.stringify(json)).toString("base64");
  });
  expect(verify(body)).toBe("KL_BUNDLE_INCLUSION");
  expect(verify(edited("v2", (entry) => (entry.logIndex = "0")))).toBe("KL_BUNDLE_UNBOUND");
  expect(verify(edited("v2", (_, b) => (b.dsseEnvelope.signatures[0].keyid = "SHA256:junk")))).toBe("KL_BUNDLE_KEYID");
  const twice = edited("v2", (_, b) => b.dsseEnvelope.signatures.push(b.dsseEnvelope.signatures[0]));
  expect(verify(twice)).toBe("KL_BUNDLE_SIGNATURES");
});
