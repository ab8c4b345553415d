import { describe, expect, test } from "vitest";
import { assertAllowed, type Evidence, judge, parsePolicy } from "../index.ts";
import { bytesOf, issuer, newBundle, newLeaf, newRoot, newWorld, san, signedAt } from "./authorities/index.ts";
import { builderId, codeOf, kernel, now, policyText, rule, source, statement } from "./material.ts";
import { feed, people } from "./rules.ts";

const world = newWorld();
const root = JSON.stringify(newRoot(world));
const roots = `roots: { ours: { json: '${root}' } }\n`;
const claims = [
  { digest: kernel.index },
  ...kernel.variants.map(({ key, manifest }) => ({ digest: manifest, scope: "variant", variant: key })),
];
const codeFor = (policy: ReturnType<typeof parsePolicy>, evidence: Evidence[], at = now) =>
  codeOf(() => assertAllowed(judge({ policy, kernel, evidence, now: at }), kernel));

describe("a cool-down", () => {
  const { publisher } = people;
  const stamped = (time: Date) =>
    claims.map((claim) => {
      const stamps = (signature: Buffer) => [world.tsa.stamp(signature, time)];
      return {
        subject: claim.digest,
        bundle: bytesOf(newBundle({ pair: publisher, payload: statement(claim), stamps })),
      };
    });
  const waiting = (days: number, more = `${roots}times: { root: ours }\n`) =>
    parsePolicy(policyText({ publisher }, `${rule()}    minimumAgeDays: ${days}\n`) + more);
  const later = (days: number) => new Date(signedAt.getTime() + days * 86_400_000);

  test("is over when a trusted timestamp is old enough", () => {
    expect(codeFor(waiting(14), stamped(signedAt), later(14))).toBe("no refusal");
    expect(codeFor(waiting(14), stamped(signedAt), later(13.9))).toBe("KL_VERDICT_TOO_YOUNG");
  });
  test("is not over for a kernel of which one statement is young", () => {
    const [index, ...variants] = stamped(signedAt);
    const [young] = stamped(later(10));
    expect(codeFor(waiting(14), [young!, ...variants], later(20))).toBe("KL_VERDICT_TOO_YOUNG");
    expect(codeFor(waiting(14), [index!, ...variants], later(20))).toBe("no refusal");
  });
  test("never ends where the policy trusts no clock", () => {
    expect(codeFor(waiting(1, ""), stamped(signedAt))).toBe("KL_BUNDLE_MATERIAL");
    const bare = claims.map((claim) => ({
      subject: claim.digest,
      bundle: bytesOf(newBundle({ pair: publisher, payload: statement(claim) })),
    }));
    expect(codeFor(waiting(1), bare)).toBe("KL_VERDICT_NO_TRUSTED_TIME");
  });
  test("does not begin by a clock that tells no time", () => {
    expect(codeFor(waiting(14), stamped(signedAt), new Date(Number.NaN))).not.toBe("no refusal");
  });
});

describe("a signer that was revoked since a moment", () => {
  const { publisher, security } = people;
  const revoking = async (since: string) => {
    const more = `${roots}times: { root: ours }\nrevocations: [{ id: acme, file: r.json, by: [security], maxAgeDays: 7 }]\n`;
    const { fingerprintOf } = await import("../index.ts");
    const signer = fingerprintOf(publisher.publicKey);
    const bytes = await feed("revocations", [{ kind: "signer", signer, since, reason: "Stolen." }]);
    const policy = parsePolicy(policyText({ publisher, security }) + more);
    return { ...policy, documents: { feeds: new Map([["acme", bytes]]), exceptions: [], seen: {} } };
  };
  const stamped = claims.map((claim) => {
    const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];
    return {
      subject: claim.digest,
      bundle: bytesOf(newBundle({ pair: publisher, payload: statement(claim), stamps })),
    };
  });
  test("still counts for what a trusted clock saw before, and for nothing after", async () => {
    expect(codeFor(await revoking("2026-07-01T00:00:00Z"), stamped)).toBe("no refusal");
    expect(codeFor(await revoking("2026-05-01T00:00:00Z"), stamped)).toBe("KL_VERDICT_REVOKED");
  });
});

describe("a certificate identity", () => {
  const leaf = newLeaf(world);
  const evidence = claims.map((claim) => {
    const stamps = (signature: Buffer) => [world.tsa.stamp(signature, signedAt)];
    const entries = (it: Parameters<typeof world.log.entry>[0]) => [world.log.entry(it)];
    return { subject: claim.digest, bundle: bytesOf(newBundle({ leaf, payload: statement(claim), stamps, entries })) };
  });
  const policyOf = (name = san, publishers = "ci") =>
    parsePolicy(`version: 1
keys: {}
${roots}identities: { ci: { root: ours, issuer: "${issuer}", san: "${name}" } }
principals: { acme: { keys: [ci] } }
rules:
  - match: "acme/*"
    publishers: [${publishers}]
    builders: [{ id: "${builderId}", keys: [${publishers}] }]
    sources: [{ repository: "${source.repository}" }]
numerics: { allowDequantization: false }
`);
  test("can publish, by its own name and by its owner's, and is recorded as issuer and subject", () => {
    expect(codeFor(policyOf(), evidence)).toBe("no refusal");
    expect(codeFor(policyOf(san, "acme"), evidence)).toBe("no refusal");
    const { accepted } = judge({ policy: policyOf(), kernel, evidence, now });
    expect(new Set(accepted.map(({ signer }) => signer))).toEqual(new Set([`${issuer} ${san}`]));
  });
  test("is compared character for character", () => {
    for (const other of [san.slice(0, -1), `${san}x`, san.toUpperCase()]) {
      expect(codeFor(policyOf(other), evidence)).toMatch(/^KL_BUNDLE_/);
    }
  });
  test("has a name of its own", () => {
    const twice = (text: string) => codeOf(() => parsePolicy(text));
    const { publisher } = people;
    const both = `${roots}identities: { publisher: { root: ours, issuer: i, san: s } }\n`;
    expect(twice(policyText({ publisher }) + both)).toBe("KL_POLICY_PRINCIPAL");
    const same = `${roots}identities: { a: { root: ours, issuer: i, san: s }, b: { root: ours, issuer: i, san: s } }\n`;
    expect(twice(policyText({ publisher }) + same)).toBe("KL_POLICY_KEY");
  });
});
