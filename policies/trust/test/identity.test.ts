import { describe, expect, test } from "vitest";
import type { ProofDemand } from "../verify/types.ts";
import { verifyBundle } from "../verify.ts";
import { newPair } from "./authorities/certificates.ts";
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
} from "./authorities/index.ts";
import { codeOf, now } from "./material.ts";

const world = newWorld();
const leaf = newLeaf(world);
const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];

const verify = (bundle: Loose, root = trustedRoot(world), demand?: ProofDemand) =>
  verifyBundle(bytesOf(bundle), {
    keys: [],
    identities: [identity(root, demand ? { demand } : {})],
    now,
  });

describe("a bundle with a certificate holds", () => {
  test("with a timestamp and a Rekor v2 entry", () => {
    const signed = verify(newBundle({ leaf, stamps, entries: (it) => [world.log.entry(it)] }));
    expect(signed.signer).toMatchObject({ kind: "identity", identityId: "release", issuer, san });
    expect(signed.trustedTime).toEqual(signedAt);
    expect(signed.logged).toEqual([{ log: "log.example", index: 5n }]);
  });

  test("with a Rekor v1 entry, whose promise tells the time", () => {
    const signed = verify(newBundle({ leaf, entries: (it) => [world.oldLog.promised(it, signedAt)] }));
    expect(signed.times).toMatchObject([{ source: "log", time: signedAt }]);
    expect(signed.logged).toEqual([{ log: "rekor.example", index: 7n }]);
  });

  test("with a timestamp alone, where the root has no log", () => {
    const { log: _, oldLog: __, ...small } = world;
    expect(verify(newBundle({ leaf, stamps }), trustedRoot(small)).logged).toEqual([]);
  });

  test("by the caller's clock, where the root can tell no time and the certificate lives long", () => {
    const { ca } = world;
    const long = newLeaf(world, { to: new Date("2027-01-01T00:00:00Z") });
    expect(verify(newBundle({ leaf: long }), trustedRoot({ ca })).times).toEqual([]);
    expect(codeOf(() => verify(newBundle({ leaf }), trustedRoot({ ca })))).toBe("KL_BUNDLE_CERTIFICATE");
  });
});

describe("a log of certificates", () => {
  const seen = { ...world, ctLog: newPair() };
  const entries = (it: Parameters<typeof world.log.entry>[0]) => [world.log.entry(it)];

  test("has seen the certificate where the root names one", () => {
    expect(codeOf(() => verify(newBundle({ leaf: newLeaf(seen), stamps, entries }), trustedRoot(seen)))).toBe(
      "no refusal",
    );
    expect(codeOf(() => verify(newBundle({ leaf, stamps, entries }), trustedRoot(seen)))).toBe("KL_BUNDLE_CERTIFICATE");
  });

  test("of a stranger does not count", () => {
    const strange = newBundle({ leaf: newLeaf({ ...seen, ctLog: newPair() }), stamps, entries });
    expect(codeOf(() => verify(strange, trustedRoot(seen)))).toBe("KL_BUNDLE_CERTIFICATE");
  });
});

describe("what the root can give is demanded", () => {
  const both = (it: Parameters<typeof world.log.entry>[0]) => [
    world.log.entry(it),
    world.oldLog.promised(it, signedAt),
  ];
  test.each<[string, ProofDemand | undefined, Loose, string]>([
    ["no time", undefined, { entries: (it: never) => [world.log.entry(it)] }, "KL_BUNDLE_TIME"],
    ["no entry", undefined, { stamps }, "KL_BUNDLE_LOG_MISSING"],
    ["no entry, but none is wanted", { logEntries: 0 }, { stamps }, "no refusal"],
    [
      "one of two logs",
      { logEntries: 2 },
      { stamps, entries: (it: never) => [world.log.entry(it)] },
      "KL_BUNDLE_LOG_MISSING",
    ],
    ["two of two logs and two times", { logEntries: 2, times: 2 }, { stamps, entries: both }, "no refusal"],
    ["a log of certificates", { certificateLogs: 1 }, { stamps, entries: both }, "KL_BUNDLE_CERTIFICATE"],
    [
      "one log that holds two entries",
      { logEntries: 2 },
      {
        stamps,
        entries: (it: never) => {
          const first = world.log.entry(it);
          const body = JSON.parse(Buffer.from(first.canonicalizedBody, "base64").toString());
          return [first, world.log.entry(it, { body: { ...body, another: true } })];
        },
      },
      "KL_BUNDLE_LOG_MISSING",
    ],
    [
      "one authority that speaks twice",
      { times: 2 },
      {
        stamps: (s: Buffer) => [world.tsa.stamp(s, signedAt), world.tsa.stamp(s, new Date(signedAt.getTime() + 1000))],
        entries: (it: never) => [world.log.entry(it)],
      },
      "KL_BUNDLE_TIME",
    ],
    [
      "an entry that is there twice",
      undefined,
      { stamps, entries: (it: never) => Array(2).fill(world.log.entry(it)) },
      "KL_BUNDLE_LOG",
    ],
  ])("%s", (_, demand, parts, code) => {
    expect(codeOf(() => verify(newBundle({ leaf, ...parts }), trustedRoot(world), demand))).toBe(code);
  });
});

describe("a bundle with a certificate is refused", () => {
  const entries = (it: Parameters<typeof world.log.entry>[0]) => [world.log.entry(it)];
  test("under a root that does not know its authority", () => {
    const root = trustedRoot({ ...world, ca: newWorld().ca });
    expect(codeOf(() => verify(newBundle({ leaf, stamps, entries }), root))).toBe("KL_BUNDLE_CERTIFICATE");
  });
  test("with a timestamp of a stranger, or over something else", () => {
    const stranger = newWorld().tsa;
    const strange = newBundle({ leaf, stamps: (s) => [stranger.stamp(s, signedAt)], entries });
    const other = newBundle({ leaf, stamps: () => [world.tsa.stamp(Buffer.from("other"), signedAt)], entries });
    expect(codeOf(() => verify(strange))).toBe("KL_BUNDLE_TIMESTAMP");
    expect(codeOf(() => verify(other))).toBe("KL_BUNDLE_TIMESTAMP");
  });
  test("signed outside of the certificate's ten minutes", () => {
    const late = newBundle({ leaf, stamps: (s) => [world.tsa.stamp(s, new Date("2026-06-01T12:10:01Z"))], entries });
    expect(codeOf(() => verify(late))).toBe("KL_BUNDLE_CERTIFICATE");
  });
  test("with an entry of a log that the root does not name", () => {
    const other = newWorld().log;
    const bundle = newBundle({ leaf, stamps, entries: (it) => [other.entry(it)] });
    expect(codeOf(() => verify(bundle))).toBe("KL_BUNDLE_LOG_UNKNOWN");
  });
  test("with an entry that names another signer", () => {
    const bundle = newBundle({
      leaf,
      stamps,
      entries: (it) => [world.log.entry({ ...it, certificate: newLeaf(world).der })],
    });
    expect(codeOf(() => verify(bundle))).toBe("KL_BUNDLE_LOG");
  });
});
