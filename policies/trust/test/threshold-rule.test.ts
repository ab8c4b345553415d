import { describe, expect, test } from "vitest";
import { audit, outcome, policyWith, testResult } from "./rules.ts";

const twoAuditors = policyWith("require: { audit: { by: [alice, bob, carol], criteria: [reviewed], atLeast: 2 } }");
const code = "KL_VERDICT_THRESHOLD";

describe("two auditors", () => {
  test("are two people", async () => {
    expect(outcome(twoAuditors, [await audit("alice"), await audit("bob")])).toBe("allowed");
  });
  test("are not two keys of one person", async () => {
    expect(outcome(twoAuditors, [await audit("alice"), await audit("alice2")])).toBe(code);
  });
  test("are not two audits by one", async () => {
    const again = { criteria: ["audited"] };
    expect(outcome(twoAuditors, [await audit("bob"), await audit("bob", again)])).toBe(code);
  });
  test("are not one who did one variant and one who did the other", async () => {
    const { kernel } = await import("./material.ts");
    const [v3, v4] = kernel.variants;
    const halves = [
      await audit("alice", { variant: v3!.key, digest: v3!.manifest }),
      await audit("bob", { variant: v4!.key, digest: v4!.manifest }),
    ];
    expect(outcome(twoAuditors, halves)).toBe(code);
  });
  test("are not the publisher and somebody", async () => {
    const own = policyWith("require: { audit: { by: [publisher, bob], criteria: [reviewed], atLeast: 2 } }");
    expect(outcome(own, [await audit("publisher"), await audit("bob")])).toBe(code);
  });
  test("agree on each criterion, both of them", async () => {
    const both = policyWith("require: { audit: { by: [alice, bob], criteria: [reviewed, audited], atLeast: 2 } }");
    expect(outcome(both, [await audit("alice", { criteria: ["audited"] }), await audit("bob")])).toBe(code);
    const strong = { criteria: ["audited"] };
    expect(outcome(both, [await audit("alice", strong), await audit("bob", strong)])).toBe("allowed");
  });
});

describe("a tree", () => {
  const leafOf = (by: string, criterion = "reviewed") => `{ audit: { by: [${by}], criteria: [${criterion}] } }`;
  test("allOf demands every part, anyOf one", async () => {
    const all = policyWith(`require: { allOf: [${leafOf("alice")}, ${leafOf("bob")}] }`);
    const any = policyWith(`require: { anyOf: [${leafOf("alice")}, ${leafOf("bob")}] }`);
    expect(outcome(all, [await audit("alice")])).toBe("KL_VERDICT_AUDITOR");
    expect(outcome(all, [await audit("alice"), await audit("bob")])).toBe("allowed");
    expect(outcome(any, [await audit("bob")])).toBe("allowed");
    expect(outcome(any, [await audit("carol")])).toBe("KL_VERDICT_AUDITOR");
    expect(outcome(any, [])).toBe("KL_VERDICT_AUDIT_MISSING");
  });

  const mixed = policyWith(
    `require:
  atLeast:
    count: 2
    of:
      - ${leafOf("alice, bob")}
      - { test: { by: [bob, carol], suites: [numerics] } }
      - ${leafOf("alice", "audited")}`,
  );
  test("atLeast counts people, not parts", async () => {
    expect(outcome(mixed, [await audit("bob"), await testResult("bob")])).toBe(code);
    expect(outcome(mixed, [await audit("alice", { criteria: ["audited"] })])).toBe(code);
    expect(outcome(mixed, [await audit("alice"), await testResult("bob")])).toBe("allowed");
  });
  test("atLeast gives people to parts so that as many count as can", async () => {
    // Alice could take the first or the third part; only the third leaves the first to Bob.
    const evidence = [await audit("bob"), await audit("alice", { criteria: ["audited"] })];
    expect(outcome(mixed, evidence)).toBe("allowed");
  });
  test("atLeast fails with too few parts", async () => {
    expect(outcome(mixed, [await audit("bob")])).not.toBe("allowed");
    expect(outcome(mixed, [])).not.toBe("allowed");
  });
  test("a part of several is one person's word only if that person alone meets all of it", async () => {
    const parts = policyWith(`require:
  atLeast:
    count: 2
    of:
      - allOf: [${leafOf("alice, bob")}, { test: { by: [alice, bob], suites: [numerics] } }]
      - ${leafOf("carol")}`);
    const carol = await audit("carol");
    expect(outcome(parts, [carol, await audit("alice"), await testResult("bob")])).toBe(code);
    expect(outcome(parts, [carol, await audit("alice"), await testResult("alice")])).toBe("allowed");
  });
});
