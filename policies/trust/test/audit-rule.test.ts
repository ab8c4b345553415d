import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { judge } from "../index.ts";
import { kernel, now } from "./material.ts";
import { type AuditParts, audit, outcome, type Person, people, policyWith, published, signed } from "./rules.ts";

const demand = (by = "[alice, bob]", more = "") =>
  policyWith(`require: { audit: { by: ${by}, criteria: [reviewed]${more} } }`);
const policy = demand();
const [v3, v4] = kernel.variants as [(typeof kernel.variants)[0], (typeof kernel.variants)[0]];

describe("a kernel that was audited as demanded is allowed", () => {
  test("by an audit of the whole version", async () => {
    const evidence = [await audit("alice")];
    expect(outcome(policy, evidence)).toBe("allowed");
    const { accepted } = judge({ policy, kernel, evidence: [...published, ...evidence], now });
    expect(accepted.filter(({ builder }) => builder === undefined)).toHaveLength(1);
  });
  test("by one audit for each variant", async () => {
    const each = await Promise.all(
      [v3, v4].map(({ key, manifest }) => audit("bob", { variant: key, digest: manifest })),
    );
    expect(outcome(policy, each)).toBe("allowed");
  });
  test("under a criterion that implies the demanded one", async () => {
    expect(outcome(policy, [await audit("alice", { criteria: ["audited"] })])).toBe("allowed");
  });
});

describe("a kernel is refused", () => {
  const cases: [string, string, Person, AuditParts][] = [
    ["by somebody who is no auditor", "KL_VERDICT_AUDITOR", "carol", {}],
    ["by the publisher itself", "KL_VERDICT_AUDITOR", "publisher", {}],
    ["for a weaker criterion", "KL_VERDICT_AUDIT_CRITERIA", "alice", { criteria: ["read"] }],
    ["for an unknown criterion", "KL_VERDICT_AUDIT_CRITERIA", "alice", { criteria: ["everything"] }],
    ["that expired", "KL_VERDICT_EXPIRED", "alice", { expires: "2026-11-24T12:00:00Z" }],
    ["from the future", "KL_VERDICT_FUTURE", "alice", { issued: "2026-12-01T00:00:00Z" }],
    ["of another version", "KL_VERDICT_PARAMETERS", "alice", { version: "1.2.2" }],
    ["of another package", "KL_VERDICT_PARAMETERS", "alice", { package: "acme/other" }],
    ["of another digest", "KL_VERDICT_SUBJECT", "alice", { digest: digestOf("x"), attachedTo: kernel.index }],
    ["with a variant's scope on the index", "KL_VERDICT_SCOPE", "alice", { variant: v3.key }],
    [
      "that calls itself full and has a base",
      "KL_VERDICT_AUDIT_FORM",
      "alice",
      { kind: "full", from: { version: "1.0.0", digest: digestOf("x") } },
    ],
    ["that calls itself delta and has none", "KL_VERDICT_AUDIT_FORM", "alice", { kind: "delta" }],
    ["without a date", "KL_VERDICT_AUDIT_FORM", "alice", { issued: "yesterday" }],
    ["that neither passes nor not", "KL_VERDICT_AUDIT_FORM", "alice", { result: "fine" }],
  ];
  test.each(cases)("with an audit %s", async (_, code, by, parts) => {
    expect(outcome(policy, [await audit(by, parts)])).toBe(code);
  });
  test("without any", () => expect(outcome(policy)).toBe("KL_VERDICT_AUDIT_MISSING"));
  test("when the audit is older than the rule takes", async () => {
    const fresh = demand("[alice]", ", maxAgeDays: 7");
    expect(outcome(fresh, [await audit("alice")])).toBe("KL_VERDICT_EXPIRED");
    expect(outcome(fresh, [await audit("alice", { issued: "2026-11-20T00:00:00Z" })])).toBe("allowed");
  });
  test("when only one of two variants was audited, or one's audit is hung on the other", async () => {
    const only = await audit("bob", { variant: v3.key, digest: v3.manifest });
    expect(outcome(policy, [only])).toBe("KL_VERDICT_AUDIT_MISSING");
    expect(outcome(policy, [only, { ...only, subject: v4.manifest }])).toBe("KL_VERDICT_SUBJECT");
    const swapped = await audit("bob", { variant: v3.key, digest: v4.manifest });
    expect(outcome(policy, [only, swapped])).toBe("KL_VERDICT_SCOPE");
  });
  test("when the publisher is also named as its auditor", async () => {
    const own = demand("[publisher, alice]");
    expect(outcome(own, [await audit("publisher")])).toBe("KL_VERDICT_SELF_AUDIT");
    expect(outcome(own, [await audit("alice")])).toBe("allowed");
  });
  test("when the audit's signature is of nobody", async () => {
    const stranger = await audit("alice");
    const broken = {
      ...stranger,
      bundle: Buffer.from(Buffer.from(stranger.bundle).toString().replace('"sig":"', '"sig":"AAAA')),
    };
    expect(outcome(policy, [broken])).toBe("KL_VERDICT_AUDIT_MISSING");
  });
});

describe("a violation beats every pass", () => {
  test.each([
    ["of the version", {}],
    ["of one variant", { variant: v3.key, digest: v3.manifest }],
    ["that expired", { expires: "2026-11-02T00:00:00Z" }],
    ["under another criterion", { criteria: ["read"] }],
    ["attached elsewhere", { attachedTo: v4.manifest }],
    ["with a wrong version", { version: "0.0.1" }],
  ] as [string, AuditParts][])("%s", async (_, parts) => {
    const passes = [await audit("alice"), await audit("bob")];
    expect(outcome(policy, passes)).toBe("allowed");
    const violation = await audit("bob", { ...parts, result: "violation" });
    expect(outcome(policy, [...passes, violation])).toBe("KL_VERDICT_AUDIT_VIOLATION");
  });
  test("also from an auditor whom only another rule names, and also hidden among other subjects", async () => {
    const wide = policyWith(`require: { audit: { by: [alice], criteria: [read] } }
`);
    const other = { ...wide, rules: [...wide.rules, { ...demand("[bob]").rules[0]!, match: "other/*" }] };
    const violation = await audit("bob", { result: "violation" });
    expect(outcome(wide, [await audit("alice"), violation])).toBe("allowed");
    expect(outcome(other, [await audit("alice"), violation])).toBe("KL_VERDICT_AUDIT_VIOLATION");
  });
  test("also by another key of an auditor than the rule names", async () => {
    const byKey = demand("[alice-key]");
    expect(outcome(byKey, [await audit("alice")])).toBe("allowed");
    expect(outcome(byKey, [await audit("alice2")])).toBe("KL_VERDICT_AUDITOR");
    const violation = await audit("alice2", { result: "violation" });
    expect(outcome(byKey, [await audit("alice"), violation])).toBe("KL_VERDICT_AUDIT_VIOLATION");
  });
  test("but not from a stranger or a publisher who is no auditor", async () => {
    const strangers = [
      await audit("carol", { result: "violation" }),
      await audit("publisher", { result: "violation" }),
    ];
    expect(outcome(policy, [await audit("alice"), ...strangers])).toBe("allowed");
  });
});

describe("delta audits", () => {
  const base = { version: "1.2.0", digest: digestOf("the index of 1.2.0") };
  const older = { version: "1.1.0", digest: digestOf("the index of 1.1.0") };
  test("count on top of a full audit, over several steps, by different auditors", async () => {
    const chain = [
      await audit("alice", { from: base }),
      await audit("bob", { ...base, from: older }),
      await audit("alice", older),
    ];
    expect(outcome(policy, chain)).toBe("allowed");
    const { accepted } = judge({ policy, kernel, evidence: [...published, ...chain], now });
    expect(accepted.map(({ subject }) => subject)).toEqual(expect.arrayContaining([base.digest, older.digest]));
  });
  const broken: [string, () => Promise<Awaited<ReturnType<typeof audit>>[]>][] = [
    ["nothing below", async () => []],
    ["a delta below that has nothing below", async () => [await audit("bob", { ...base, from: older })]],
    ["a base for a weaker criterion", async () => [await audit("bob", { ...base, criteria: ["read"] })]],
    ["a base by a stranger", async () => [await audit("carol", base)]],
    ["a base that expired", async () => [await audit("bob", { ...base, expires: "2026-11-02T00:00:00Z" })]],
    ["a base of another version", async () => [await audit("bob", { ...base, version: "1.1.9" })]],
    [
      "a base with a violation",
      async () => [await audit("bob", base), await audit("alice", { ...base, result: "violation" })],
    ],
    [
      "a circle",
      async () => [await audit("bob", { ...base, from: { version: kernel.version, digest: kernel.index } })],
    ],
  ];
  test.each(broken)("do not count on %s", async (_, below) => {
    expect(outcome(policy, [await audit("alice", { from: base }), ...(await below())])).toBe("KL_VERDICT_AUDIT_BASE");
  });
  test("do not rest on what a publisher audited in an earlier version", async () => {
    const own = demand("[publisher, alice]");
    const chain = [await audit("alice", { from: base }), await audit("publisher", base)];
    expect(outcome(own, chain)).toBe("KL_VERDICT_AUDIT_BASE");
  });
  test("need as many auditors below as above", async () => {
    const two = demand("[alice, bob, carol]", ", atLeast: 2");
    const heads = [await audit("alice", { from: base }), await audit("bob", { from: base })];
    expect(outcome(two, [...heads, await audit("carol", base)])).toBe("KL_VERDICT_AUDIT_BASE");
    expect(outcome(two, [...heads, await audit("carol", base), await audit("alice", base)])).toBe("allowed");
  });
  test("end after sixteen steps", async () => {
    const version = (i: number) => ({ version: `0.0.${i}`, digest: digestOf(`index ${i}`) });
    const chain = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        audit("alice", { ...(i === 0 ? {} : version(i)), ...(i === 19 ? {} : { from: version(i + 1) }) }),
      ),
    );
    expect(outcome(policy, chain)).toBe("KL_VERDICT_AUDIT_BASE");
    const short = [...chain.slice(0, 10), await audit("bob", version(10))];
    expect(outcome(policy, short)).toBe("allowed");
  });
});

test("hostile predicates are refused with a code", async () => {
  for (const predicate of [{}, { kernlock: null }, { kernlock: [], criteria: "x" }, { result: "pass", criteria: [] }]) {
    const evidence = await signed(people.alice, "https://kernlock.dev/attestation/audit/v1", predicate);
    expect(outcome(policy, [evidence])).toBe("KL_VERDICT_AUDIT_FORM");
  }
});
