import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { judge, type Policy } from "../index.ts";
import { evidence, kernel, now } from "./material.ts";
import { audit, breakGlass, type ExceptionParts, exception, feed, outcome, policyWith, published } from "./rules.ts";

const rule = "require: { audit: { by: [alice], criteria: [reviewed] } }\nminimumAgeDays: 3";
const authorities = `exceptions: { by: [security, officer], atLeast: 2, maxDays: 30 }
breakGlass: { by: [officer], maxDays: 3 }
`;
const policyOf = (exceptions: Uint8Array[], more = "", feeds = new Map<string, Uint8Array>()): Policy =>
  policyWith(rule, authorities + more, { exceptions, feeds });
const waives = ["audit", "minimumAge"];
const both = async (parts: ExceptionParts = { waives }) => [
  await exception("security", parts),
  await exception("officer", parts),
];

describe("an exception", () => {
  test("signed by as many people as the policy says lets pass what it names, and the verdict says so", async () => {
    expect(outcome(policyOf([]))).toBe("KL_VERDICT_NO_TRUSTED_TIME");
    const policy = policyOf(await both());
    const verdict = judge({ policy, kernel, evidence: published, now });
    expect(verdict.ok).toBe(true);
    expect(verdict.mode).toBe("enforce");
    expect(verdict.waivers.map(({ requirement, signers }) => [requirement, signers.length])).toEqual([
      ["audit", 2],
      ["minimumAge", 2],
    ]);
    expect(verdict.accepted).toHaveLength(3);
    expect(JSON.stringify(verdict.tree)).toContain("KL_VERDICT_AUDIT_MISSING");
  });
  test("waives nothing that it does not name", async () => {
    expect(outcome(policyOf(await both({ waives: ["audit"] })))).toBe("KL_VERDICT_NO_TRUSTED_TIME");
    expect(outcome(policyOf(await both({ waives: ["minimumAge"] })))).toBe("KL_VERDICT_AUDIT_MISSING");
  });

  const rejected: [string, string | null, (parts: ExceptionParts) => Promise<Uint8Array[]>, ExceptionParts][] = [
    ["that has ended", "KL_EXCEPTION_EXPIRED", both, { waives, expires: "2026-11-24T12:00:00Z" }],
    ["that has not begun", "KL_EXCEPTION_FUTURE", both, { waives, issued: "2026-11-25T00:00:00Z" }],
    ["for too long", "KL_EXCEPTION_TOO_LONG", both, { waives, expires: "2027-11-24T00:00:00Z" }],
    ["of another version", "KL_EXCEPTION_FORM", both, { waives, version: "1.2.2" }],
    ["of signatures and the like", "KL_EXCEPTION_FORM", both, { waives: ["signature"] }],
    ["for other bytes", null, both, { waives, digest: digestOf("other bytes") }],
    ["by one person", "KL_EXCEPTION_THRESHOLD", async (p) => [await exception("officer", p)], { waives }],
    [
      "by one person twice",
      "KL_EXCEPTION_THRESHOLD",
      async (p) => [await exception("officer", p), await exception("officer", p)],
      { waives },
    ],
    ["by the publisher", "KL_EXCEPTION_SIGNER", async (p) => [await exception("publisher", p)], { waives }],
  ];
  test.each(rejected)("%s waives nothing", async (_, code, make, parts) => {
    const policy = policyOf(await make(parts));
    expect(outcome(policy)).toBe("KL_VERDICT_NO_TRUSTED_TIME");
    const { warnings } = judge({ policy, kernel, evidence: published, now });
    expect(warnings[0]?.code ?? null).toBe(code);
  });
  test("of two that say different things is not one by two people", async () => {
    const apart = [await exception("security", { waives }), await exception("officer", { waives: ["audit"] })];
    expect(outcome(policyOf(apart))).toBe("KL_VERDICT_NO_TRUSTED_TIME");
  });
  test("means nothing to a policy that lets nobody give one", async () => {
    expect(outcome(policyWith(rule, "", { exceptions: await both() }))).toBe("KL_VERDICT_NO_TRUSTED_TIME");
  });
  test("does not help against a violation, a revocation or a wrong publisher", async () => {
    const policy = policyOf(await both());
    expect(outcome(policy, [await audit("alice", { result: "violation" })])).toBe("KL_VERDICT_AUDIT_VIOLATION");
    const verdict = judge({ policy, kernel, evidence: published.slice(1), now });
    expect(verdict.ok).toBe(false);
    const revoked = await feed("revocations", [{ kind: "digest", digest: kernel.index, reason: "Stolen." }]);
    const more = "revocations: [{ id: acme, file: r.json, by: [security], maxAgeDays: 7 }]\n";
    expect(outcome(policyOf(await both(), more, new Map([["acme", revoked]])))).toBe("KL_VERDICT_REVOKED");
  });
  test("waives one advisory by its name", async () => {
    const osv = (id: string) => ({
      id,
      modified: "2026-11-01T00:00:00Z",
      affected: [{ package: { ecosystem: "Kernlock", name: kernel.name } }],
    });
    const more = "advisories: [{ id: acme, file: a.json, by: [security], maxAgeDays: 7 }]\n";
    const feeds = new Map([["acme", await feed("advisories", [osv("KSA-1")])]]);
    const named = await both({ waives: [...waives, "advisory:KSA-1"] });
    expect(outcome(policyOf(await both(), more, feeds))).toBe("KL_VERDICT_ADVISORY");
    expect(outcome(policyOf(named, more, feeds))).toBe("allowed");
    const two = new Map([["acme", await feed("advisories", [osv("KSA-1"), osv("KSA-2")])]]);
    expect(outcome(policyOf(named, more, two))).toBe("KL_VERDICT_ADVISORY");
  });
});

describe("a break-glass order", () => {
  const order = (parts: ExceptionParts = { issued: "2026-11-24T00:00:00Z" }) => breakGlass("officer", parts);
  test("lets everything pass but who published what, and the verdict is marked", async () => {
    const policy = policyOf([await order()]);
    const violation = await audit("alice", { result: "violation" });
    const verdict = judge({ policy, kernel, evidence: [...published, violation], now });
    expect([verdict.ok, verdict.mode]).toEqual([true, "break-glass"]);
    expect(verdict.waivers.map(({ requirement }) => requirement).sort()).toEqual(["audit", "minimumAge", "violation"]);
    expect(JSON.stringify(verdict.tree)).toContain("KL_VERDICT_AUDIT_VIOLATION");
    expect(judge({ policy, kernel, evidence: published.slice(1), now }).ok).toBe(false);
    const stranger = await evidence((await import("./rules.ts")).people.carol);
    expect(judge({ policy, kernel, evidence: [stranger, ...published.slice(1)], now }).ok).toBe(false);
  });
  test("does not stand where nothing needed it", async () => {
    const plain = policyWith("", authorities, { exceptions: [await order()] });
    expect(judge({ policy: plain, kernel, evidence: published, now })).toMatchObject({ mode: "enforce", waivers: [] });
  });
  test.each([
    ["that runs for too long", { issued: "2026-11-20T00:00:00Z" }],
    ["that is over", { issued: "2026-11-22T00:00:00Z", expires: "2026-11-24T00:00:00Z" }],
    ["for other bytes", { issued: "2026-11-24T00:00:00Z", digest: digestOf("other") }],
  ])("%s changes nothing", async (_, parts) => {
    expect(outcome(policyOf([await order(parts)]))).toBe("KL_VERDICT_NO_TRUSTED_TIME");
  });
  test("by somebody who may only give exceptions changes nothing", async () => {
    const wrong = await breakGlass("security", { issued: "2026-11-24T00:00:00Z" });
    expect(outcome(policyOf([wrong]))).toBe("KL_VERDICT_NO_TRUSTED_TIME");
  });
});
