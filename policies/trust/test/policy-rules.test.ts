import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  approvalSubject,
  approvalType,
  assertAllowed,
  checkApproval,
  judge,
  lintPolicy,
  narrow,
  type Policy,
  parsePolicy,
  policyJsonSchema,
  withDocuments,
} from "../index.ts";
import { codeOf, kernel, now, policyText as simple } from "./material.ts";
import { audit, exception, outcome, type Person, people, policyText, policyWith, published, signed } from "./rules.ts";

describe("a policy is refused", () => {
  const audits = (more: string) => `require: { audit: { by: [alice], criteria: [reviewed]${more} } }`;
  test.each([
    ["an unknown auditor", "KL_POLICY_REFERENCE", "require: { audit: { by: [mallory], criteria: [read] } }", ""],
    ["an unknown criterion", "KL_POLICY_CRITERIA", "require: { audit: { by: [alice], criteria: [magic] } }", ""],
    ["more auditors than are named", "KL_POLICY_THRESHOLD", audits(", atLeast: 2"), ""],
    [
      "two keys of one person as two",
      "KL_POLICY_THRESHOLD",
      "require: { audit: { by: [alice-key, alice2-key], criteria: [read], atLeast: 2 } }",
      "",
    ],
    ["a node of two kinds", "KL_POLICY_FIELD", "require: { sbom: { by: [bob] }, vsa: { by: [bob] } }", ""],
    ["a node of no kind", "KL_POLICY_FIELD", "require: {}", ""],
    ["an empty list of parts", "KL_POLICY_FIELD", "require: { allOf: [] }", ""],
    ["two of one part", "KL_POLICY_THRESHOLD", "require: { atLeast: { count: 2, of: [{ sbom: { by: [bob] } }] } }", ""],
    [
      "a threshold in a threshold",
      "KL_POLICY_THRESHOLD",
      "require: { atLeast: { count: 1, of: [{ sbom: { by: [bob, carol], atLeast: 2 } }] } }",
      "",
    ],
    ["a threshold of none", "KL_POLICY_FIELD", audits(", atLeast: 0"), ""],
    ["an unknown mode", "KL_POLICY_FIELD", "mode: audit", ""],
    ["a version that is none", "KL_POLICY_FIELD", 'minimumVersion: "1.2"', ""],
    ["a negative age", "KL_POLICY_FIELD", "minimumAgeDays: -1", ""],
    [
      "a feed of two places",
      "KL_POLICY_FEED",
      "",
      "advisories: [{ id: a, file: a, url: 'https://x.example/', by: [bob], maxAgeDays: 1 }]",
    ],
    ["a feed of no place", "KL_POLICY_FEED", "", "advisories: [{ id: a, by: [bob], maxAgeDays: 1 }]"],
    ["a feed outside of the folder", "KL_POLICY_FEED", "", "advisories: [{ id: a, file: ../a.json }]"],
    ["a feed by an absolute path", "KL_POLICY_FEED", "", "advisories: [{ id: a, file: /a.json }]"],
    [
      "a feed over http",
      "KL_POLICY_FIELD",
      "",
      "advisories: [{ id: a, url: 'http://x.example/', by: [bob], maxAgeDays: 1 }]",
    ],
    ["an unsigned feed from afar", "KL_POLICY_FEED", "", "advisories: [{ id: a, url: 'https://x.example/' }]"],
    ["unsigned revocations", "KL_POLICY_FEED", "", "revocations: [{ id: a, file: a.json }]"],
    [
      "revocations that only warn",
      "KL_POLICY_FEED",
      "",
      "revocations: [{ id: a, file: a, by: [bob], maxAgeDays: 1, action: warn }]",
    ],
    ["a signed feed without an age", "KL_POLICY_FEED", "", "advisories: [{ id: a, file: a.json, by: [bob] }]"],
    ["two feeds of one name", "KL_POLICY_FEED", "", "advisories: [{ id: a, file: a.json }, { id: a, file: b.json }]"],
    ["exceptions by nobody known", "KL_POLICY_REFERENCE", "", "exceptions: { by: [mallory] }"],
    ["break-glass by more than there are", "KL_POLICY_THRESHOLD", "", "breakGlass: { by: [officer], atLeast: 2 }"],
    ["break-glass without an end", "KL_POLICY_FIELD", "", "breakGlass: { by: [officer], maxDays: 365 }"],
    ["a broken trusted root", "KL_POLICY_ROOT", "", 'roots: { r: { json: "{}" } }'],
    ["times of an unknown root", "KL_POLICY_REFERENCE", "", "times: { root: r }"],
    ["an identity of an unknown root", "KL_POLICY_REFERENCE", "", "identities: { ci: { root: r, issuer: i, san: s } }"],
  ])("with %s", (_, code, rule, more) => {
    expect(codeOf(() => parsePolicy(policyText(rule, `${more}\n`)))).toBe(code);
  });
  test.each([
    ["a key of two people", "KL_POLICY_PRINCIPAL", "  eve: { keys: [bob-key] }"],
    ["a person with a key's name", "KL_POLICY_PRINCIPAL", "  bob-key: { keys: [bob-key] }"],
    ["a person with an unknown key", "KL_POLICY_REFERENCE", "  eve: { keys: [eve-key] }"],
  ])("with %s", (_, code, line) => {
    const text = policyText().replace("principals:\n", `principals:\n${line}\n`);
    expect(codeOf(() => parsePolicy(text))).toBe(code);
  });
  test("with criteria in a circle, or an unknown one implied", () => {
    const of = (criteria: string) => codeOf(() => parsePolicy(policyText().replace("  read: {}", criteria)));
    expect(of("  read: { implies: [audited] }")).toBe("KL_POLICY_CRITERIA");
    expect(of("  read: { implies: [magic] }")).toBe("KL_POLICY_CRITERIA");
  });
  test("with a tree that is too deep", () => {
    const deep = `${"{ allOf: [".repeat(12)}{ sbom: { by: [bob] } }${"] }".repeat(12)}`;
    expect(codeOf(() => parsePolicy(policyText(`require: ${deep}`)))).toBe("KL_POLICY_FIELD");
  });
});

describe("modes", () => {
  const warned = (match: string, demand: string) => {
    const policy = policyWith(demand);
    const enforced = policyWith().rules[0]!;
    return { ...policy, rules: [enforced, { ...policy.rules[0]!, match, mode: "warn" as const }] };
  };
  const demand = "require: { audit: { by: [alice], criteria: [reviewed] } }";
  test("a rule that warns refuses nothing and is reported", () => {
    const verdict = judge({ policy: warned("acme/*", demand), kernel, evidence: published, now });
    expect(verdict.ok).toBe(true);
    expect(JSON.stringify(verdict.warnings)).toContain("KL_VERDICT_AUDIT_MISSING");
    expect(judge({ policy: warned("other/*", demand), kernel, evidence: published, now }).warnings).toEqual([]);
  });
  test("a rule that warns allows nothing", () => {
    expect(outcome(policyWith("mode: warn"))).toBe("KL_POLICY_NO_RULE");
  });
});

describe("an operator's policy", () => {
  const strict = policyWith("require: { audit: { by: [alice], criteria: [reviewed] } }");
  const wide = policyWith();
  test("is asked as well, and so is the project's", async () => {
    for (const policy of [narrow(wide, strict), narrow(strict, wide)]) {
      expect(outcome(policy)).toBe("KL_VERDICT_AUDIT_MISSING");
      expect(outcome(policy, [await audit("alice")])).toBe("allowed");
      const verdict = judge({ policy, kernel, evidence: [...published, await audit("alice")], now });
      expect(verdict.accepted).toHaveLength(4);
    }
  });
  test("denies by default too", () => {
    const other = { ...wide, rules: wide.rules.map((rule) => ({ ...rule, match: "kernlock/*" })) };
    expect(outcome(narrow(wide, other))).toBe("KL_POLICY_NO_RULE");
  });
  test("cannot be widened: not by exceptions that only the project accepts, not by numerics, not by modes", async () => {
    const project = policyWith("mode: warn", "exceptions: { by: [security] }\n", {
      exceptions: [await exception("security", { waives: ["audit"] })],
    });
    const lenient = { ...project, rules: wide.rules, numerics: { allowDequantization: true } };
    const policy = narrow(lenient, strict);
    expect(outcome(policy)).toBe("KL_VERDICT_AUDIT_MISSING");
    expect(policy.numerics.allowDequantization).toBe(false);
    expect(
      narrow({ ...wide, numerics: { allowDequantization: true } }, { ...wide, numerics: { allowDequantization: true } })
        .numerics,
    ).toEqual({ allowDequantization: true });
  });
  test("stands even above another above", () => {
    expect(outcome(narrow(narrow(wide, wide), strict))).toBe("KL_VERDICT_AUDIT_MISSING");
  });
  test("keeps the verdict plain data", () => {
    const verdict = judge({ policy: narrow(wide, strict), kernel, evidence: published, now });
    expect(JSON.parse(JSON.stringify(verdict))).toEqual(verdict);
    expect(codeOf(() => assertAllowed(verdict, kernel))).toBe("KL_VERDICT_AUDIT_MISSING");
  });
});

describe("a signed policy", () => {
  const operator = policyWith("", "approval: { by: [security, officer], atLeast: 2, maxDays: 90 }\n");
  const project = policyWith();
  const approve = async (
    by: Person,
    more: { digest?: Policy["digest"]; name?: string; type?: string; issued?: string; expires?: string } = {},
  ) => {
    const predicate = {
      issued: more.issued ?? "2026-11-20T00:00:00Z",
      ...(more.expires ? { expires: more.expires } : {}),
    };
    const subject = { name: more.name ?? approvalSubject, digest: more.digest ?? project.digest };
    return (await signed(people[by], more.type ?? approvalType, predicate, subject)).bundle;
  };
  const check = (bundles: Uint8Array[]) =>
    codeOf(() => checkApproval({ policy: project, bundles, judge: operator, now }));
  test("by enough people is taken", async () => {
    expect(check([await approve("security"), await approve("officer")])).toBe("no refusal");
    expect(codeOf(() => checkApproval({ policy: project, bundles: [], judge: project, now }))).toBe("no refusal");
  });
  const cases: [string, () => Promise<Uint8Array>][] = [
    ["nobody else", async () => Buffer.from("junk")],
    ["the same person", () => approve("security", { issued: "2026-11-21T00:00:00Z" })],
    ["somebody else", () => approve("alice")],
    ["an approval of another policy", () => approve("officer", { digest: operator.digest })],
    ["an approval of something else", () => approve("officer", { name: "other.yaml" })],
    ["another statement", () => approve("officer", { type: "https://kernlock.dev/policy/exception/v1" })],
    ["an expired approval", () => approve("officer", { expires: "2026-11-24T00:00:00Z" })],
    ["an old approval", () => approve("officer", { issued: "2026-01-01T00:00:00Z" })],
    ["an approval to come", () => approve("officer", { issued: "2027-01-01T00:00:00Z" })],
  ];
  test.each(cases)("by one and %s is refused", async (_, other) => {
    expect(check([await approve("security"), await other()])).toBe("KL_POLICY_APPROVAL");
  });
});

describe("lint", () => {
  const everybody = `exceptions: { by: [security] }
breakGlass: { by: [officer] }
`;
  const used = "require: { audit: { by: [alice, bob, carol], criteria: [reviewed] } }";
  const codes = (
    rule: string,
    more = everybody,
    change: (text: string) => string = (text) => text,
    exceptions: Uint8Array[] = [],
  ) => {
    const policy = withDocuments(parsePolicy(change(policyText(rule, more))), {
      feeds: new Map(),
      exceptions,
      seen: {},
    });
    return lintPolicy(policy, now).map(({ code }) => code);
  };
  test("finds nothing in a good policy", () => {
    expect(codes(used, everybody, (text) => text.replace("  read: {}\n", "  read: {}\n"))).toEqual([
      "KL_LINT_UNUSED_CRITERION",
    ]);
  });
  test("finds patterns that mean everything", () => {
    for (const match of ["*/*", "*/norm"]) {
      expect(codes(used, everybody, (text) => text.replace('"acme/*"', `"${match}"`))).toContain("KL_LINT_WILDCARD");
    }
  });
  test("finds unused and expired keys", () => {
    expect(codes("")).toContain("KL_LINT_UNUSED_KEY");
    const ended = (text: string) =>
      text.replace(/(carol-key:\n(?: {4,}.*\n)+)/, '$1    validUntil: "2026-01-01T00:00:00Z"\n');
    expect(codes(used, everybody, ended)).toContain("KL_LINT_EXPIRED_KEY");
  });
  test("finds demands that can never be met, and rules that never refuse", () => {
    expect(codes("require: { audit: { by: [publisher], criteria: [read] } }")).toContain("KL_LINT_UNREACHABLE");
    expect(codes(`${used}\nmode: warn`)).toContain("KL_LINT_WARN_ONLY");
  });
  test("finds publishers who may free themselves, and feeds that nobody signs", () => {
    expect(codes(used, "exceptions: { by: [publisher-key] }\n")).toContain("KL_LINT_PUBLISHER_AUTHORITY");
    expect(codes(used, `${everybody}advisories: [{ id: a, file: a.json }]\n`)).toContain("KL_LINT_UNSIGNED_FEED");
  });
  test("finds exceptions that are over or do not count", async () => {
    const over = await exception("security", { expires: "2026-11-23T12:00:00Z" });
    expect(codes(used, everybody, undefined, [over])).toContain("KL_LINT_EXPIRED_EXCEPTION");
    expect(codes(used, everybody, undefined, [Buffer.from("junk")])).toContain("KL_LINT_EXPIRED_EXCEPTION");
    expect(codes(used, everybody, undefined, [await exception("security")])).not.toContain("KL_LINT_EXPIRED_EXCEPTION");
  });
});

test("the published JSON Schema is the one that the parser uses", () => {
  const file = new URL("../../../schemas/policy.schema.json", import.meta.url);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(policyJsonSchema());
});

test("the simple policies of before still mean the same", () => {
  const policy = parsePolicy(simple({ publisher: people.publisher }));
  expect(policy.rules[0]).toMatchObject({ mode: "enforce", ptx: false, untestedVariants: false });
  expect(policy.owners.get("publisher")).toEqual({ id: "publisher", keys: ["publisher"] });
});
