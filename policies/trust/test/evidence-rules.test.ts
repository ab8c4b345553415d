import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { sbomType, vsaType } from "../index.ts";
import { builderId, evidence, kernel, source } from "./material.ts";
import { about, outcome, type Person, people, policyWith, signed, testResult } from "./rules.ts";

const [v3, v4] = kernel.variants as [(typeof kernel.variants)[0], (typeof kernel.variants)[0]];

describe("test results", () => {
  const policy = policyWith('require: { test: { by: [alice, bob], suites: [numerics], devices: ["H100", "CPU"] } }');
  test("of the demanded suite and device are enough", async () => {
    expect(outcome(policy, [await testResult("alice", { device: "H100" })])).toBe("allowed");
  });
  test.each([
    ["KL_VERDICT_TEST_MISSING", { suite: "speed", device: "H100" }],
    ["KL_VERDICT_TEST_DEVICE", { device: "A100" }],
    ["KL_VERDICT_TEST_DEVICE", {}],
    ["KL_VERDICT_TEST_FAILED", { device: "H100", result: "FAILED" }],
    ["KL_VERDICT_TEST_FAILED", { device: "H100", result: "WARNED" }],
    ["KL_VERDICT_FORM", { device: "H100", result: "yes" }],
    ["KL_VERDICT_SCOPE", { device: "H100", variant: v3.key }],
  ])("are refused with %s: %j", async (code, parts) => {
    expect(outcome(policy, [await testResult("alice", parts)])).toBe(code);
  });
  test("by a stranger are refused", async () => {
    expect(outcome(policy, [await testResult("carol", { device: "H100" })])).toBe("KL_VERDICT_SIGNER");
  });
  test("that failed are not outweighed by one that passed, unless a stranger's failed", async () => {
    const passed = await testResult("alice", { device: "H100" });
    const failed = await testResult("bob", { device: "CPU", result: "FAILED" });
    expect(outcome(policy, [passed, failed])).toBe("KL_VERDICT_TEST_FAILED");
    expect(outcome(policy, [passed, await testResult("carol", { device: "CPU", result: "FAILED" })])).toBe("allowed");
  });
  test("of every suite are needed", async () => {
    const two = policyWith("require: { test: { by: [alice], suites: [numerics, speed] } }");
    expect(outcome(two, [await testResult("alice")])).toBe("KL_VERDICT_TEST_MISSING");
    expect(outcome(two, [await testResult("alice"), await testResult("alice", { suite: "speed" })])).toBe("allowed");
  });
  test("are needed of every variant, unless untested variants are allowed", async () => {
    const rule = "require: { test: { by: [alice], suites: [numerics] } }";
    const one = await testResult("alice", { variant: v3.key, digest: v3.manifest });
    expect(outcome(policyWith(rule), [one])).toBe("KL_VERDICT_TEST_MISSING");
    const lenient = policyWith(`${rule}\nuntestedVariants: true`);
    expect(outcome(lenient, [one])).toBe("allowed");
    const failed = await testResult("alice", { variant: v4.key, digest: v4.manifest, result: "FAILED" });
    expect(outcome(lenient, [one, failed])).toBe("KL_VERDICT_TEST_FAILED");
  });
});

describe("an SBOM", () => {
  const policy = policyWith("require: { sbom: { by: [publisher] } }");
  const properties = (more: Record<string, string> = {}) =>
    Object.entries({ package: kernel.name, version: kernel.version, scope: "index", ...more }).map(([name, value]) => ({
      name: `kernlock:${name}`,
      value,
    }));
  const bom = (list = properties()) => ({
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    metadata: { timestamp: "2026-11-01T00:00:00Z", properties: list },
    components: [],
  });
  const outcomeOf = async (predicate: object, by: Person = "publisher") =>
    outcome(policy, [await signed(people[by], sbomType, predicate)]);
  test("of the publisher is enough", async () => expect(await outcomeOf(bom())).toBe("allowed"));
  test("is refused otherwise", async () => {
    expect(outcome(policy)).toBe("KL_VERDICT_SBOM_MISSING");
    expect(await outcomeOf(bom(), "alice")).toBe("KL_VERDICT_SIGNER");
    expect(await outcomeOf(bom(properties({ version: "9.9.9" })))).toBe("KL_VERDICT_PARAMETERS");
    expect(await outcomeOf(bom(properties({ scope: "variant", variant: v3.key })))).toBe("KL_VERDICT_SCOPE");
    expect(await outcomeOf(bom([...properties(), ...properties()]))).toBe("KL_VERDICT_FORM");
    expect(await outcomeOf(bom([]))).toBe("KL_VERDICT_FORM");
    expect(await outcomeOf({ ...bom(), bomFormat: "SPDX" })).toBe("KL_VERDICT_FORM");
  });
});

describe("a verification summary", () => {
  const policy = policyWith(
    "require: { vsa: { by: [carol, publisher], levels: [SLSA_BUILD_LEVEL_2], maxAgeDays: 30 } }",
  );
  const vsa = (more: object = {}) => ({
    verifier: { id: "https://verifier.example" },
    timeVerified: "2026-11-20T00:00:00Z",
    resourceUri: "https://kernels.example/acme/norm",
    policy: { uri: "kernels.policy.yaml" },
    verificationResult: "PASSED",
    verifiedLevels: ["SLSA_BUILD_LEVEL_2"],
    kernlock: about({ issued: "2026-11-20T00:00:00Z" }),
    ...more,
  });
  const outcomeOf = async (predicate: object, by: Person = "carol") =>
    outcome(policy, [await signed(people[by], vsaType, predicate)]);
  test("by a named verifier is enough", async () => expect(await outcomeOf(vsa())).toBe("allowed"));
  test("is refused otherwise", async () => {
    expect(outcome(policy)).toBe("KL_VERDICT_VSA_MISSING");
    expect(await outcomeOf(vsa({ verificationResult: "FAILED" }))).toBe("KL_VERDICT_VSA_FAILED");
    expect(await outcomeOf(vsa({ verifiedLevels: ["SLSA_BUILD_LEVEL_1"] }))).toBe("KL_VERDICT_VSA_LEVEL");
    expect(await outcomeOf(vsa({ verifiedLevels: undefined }))).toBe("KL_VERDICT_FORM");
    expect(await outcomeOf(vsa({ kernlock: about({ issued: "2026-09-01T00:00:00Z" }) }))).toBe("KL_VERDICT_EXPIRED");
    expect(await outcomeOf(vsa(), "bob")).toBe("KL_VERDICT_SIGNER");
    expect(await outcomeOf(vsa(), "publisher")).toBe("KL_VERDICT_SELF_AUDIT");
  });
});

describe("a reproduced build", () => {
  const policy = policyWith("require: { rebuild: { by: [bob, publisher] } }");
  const all = (parts: object = {}) =>
    Promise.all([
      evidence(people.bob, { scope: "variant", variant: v3.key, digest: v3.manifest, ...parts }),
      evidence(people.bob, { scope: "variant", variant: v4.key, digest: v4.manifest, builder: `${builderId}/b` }),
    ]);
  test("is somebody else's provenance of the same bytes", async () => {
    expect(outcome(policy, await all())).toBe("allowed");
  });
  test("is not the publisher's own, not half of it, not of other sources", async () => {
    expect(outcome(policy)).toBe("KL_VERDICT_REBUILD_MISSING");
    expect(outcome(policy, (await all()).slice(1))).toBe("KL_VERDICT_REBUILD_MISSING");
    expect(outcome(policy, await all({ source: { ...source, revision: "other" } }))).toBe("KL_VERDICT_SOURCE");
    const other = await evidence(people.carol, { scope: "variant", variant: v3.key, digest: v3.manifest });
    expect(outcome(policy, [other, ...(await all()).slice(1)])).toBe("KL_VERDICT_REBUILD_MISSING");
    expect(outcome(policy, await all({ digest: digestOf("other bytes") }))).toBe("KL_VERDICT_REBUILD_MISSING");
  });
});
