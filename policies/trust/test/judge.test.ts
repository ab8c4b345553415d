import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { assertAllowed, type Evidence, fingerprintOf, judge, parsePolicy, type Requirement } from "../index.ts";
import {
  builderId,
  codeOf,
  evidence,
  fullEvidence,
  kernel,
  newKey,
  now,
  policyText,
  rule,
  type StatementParts,
} from "./material.ts";

const publisher = newKey();
const other = newKey("ed25519");
const policy = parsePolicy(policyText({ publisher, other }));
const full = await fullEvidence(publisher);
const decide = (items: readonly Evidence[], rules = policy) => judge({ policy: rules, kernel, evidence: items, now });
const codeFor = (items: readonly Evidence[], rules = policy) =>
  codeOf(() => assertAllowed(decide(items, rules), kernel));

/** The full evidence with the index's statement replaced. */
async function withIndex(parts: StatementParts, signer = publisher): Promise<Evidence[]> {
  return [await evidence(signer, parts, kernel.index), ...full.slice(1)];
}

describe("a kernel with all its evidence", () => {
  test("is allowed, and the verdict names what it rests on", () => {
    const verdict = decide(full);
    expect(verdict.ok).toBe(true);
    expect(verdict.accepted.map(({ scope, variant }) => [scope, variant])).toEqual([
      ["index", null],
      ["variant", "linux-x86_64-cpu-v3"],
      ["variant", "linux-x86_64-cpu-v4"],
    ]);
    expect(verdict.accepted[0]).toMatchObject({
      signer: fingerprintOf(publisher.publicKey),
      builder: builderId,
      source: kernel.source,
      subject: kernel.index,
      bundle: { digest: digestOf(full[0]!.bundle), size: full[0]!.bundle.byteLength },
    });
    expect(() => assertAllowed(verdict, kernel)).not.toThrow();
    expect(JSON.parse(JSON.stringify(verdict.tree))).toEqual(verdict.tree);
  });

  test("is not hurt by bundles that say nothing of use", async () => {
    const junk = [
      { subject: kernel.index, bundle: Buffer.from("junk") },
      await evidence(newKey()),
      await evidence(publisher, { predicateType: "https://example.test/audit/v1" }),
    ];
    expect(decide([...junk, ...full]).ok).toBe(true);
  });
});

describe("a kernel is refused", () => {
  const indexCases: [string, string, StatementParts][] = [
    [
      "for another name",
      "KL_VERDICT_SUBJECT",
      { subjects: [{ name: "acme/x", digest: { sha256: kernel.index.slice(7) } }] },
    ],
    ["without a name", "KL_VERDICT_SUBJECT", { subjects: [{ digest: { sha256: kernel.index.slice(7) } }] }],
    ["for another digest", "KL_VERDICT_SUBJECT", { digest: digestOf("another index") }],
    [
      "for two subjects",
      "KL_VERDICT_SUBJECT",
      {
        subjects: [
          { name: kernel.name, digest: { sha256: kernel.index.slice(7) } },
          { name: "acme/x", digest: { sha256: "00" } },
        ],
      },
    ],
    ["by a weak digest", "KL_VERDICT_SUBJECT", { subjects: [{ name: kernel.name, digest: { md5: "00" } }] }],
    [
      "by two digests",
      "KL_VERDICT_SUBJECT",
      { subjects: [{ name: kernel.name, digest: { sha256: kernel.index.slice(7), md5: "00" } }] },
    ],
    ["with a variant's scope", "KL_VERDICT_SCOPE", { scope: "variant", variant: "linux-x86_64-cpu-v3" }],
    ["with a variant named in the index's scope", "KL_VERDICT_SCOPE", { variant: "linux-x86_64-cpu-v3" }],
    ["for another version", "KL_VERDICT_PARAMETERS", { version: "1.2.4" }],
    ["by another builder", "KL_VERDICT_BUILDER", { builder: "https://builder.example/two" }],
    [
      "from another source",
      "KL_VERDICT_SOURCE",
      { source: { ...kernel.source, repository: "https://git.example/fork" } },
    ],
    ["from another revision", "KL_VERDICT_SOURCE", { source: { ...kernel.source, revision: "main" } }],
    ["by an audit instead of provenance", "KL_VERDICT_PREDICATE", { predicateType: "https://example.test/audit/v1" }],
  ];
  test.each(indexCases)("when the index's statement is %s", async (_, code, parts) => {
    expect(codeFor(await withIndex(parts))).toBe(code);
  });

  test("when the signer is known but no publisher", async () => {
    expect(codeFor(await withIndex({}, other))).toBe("KL_VERDICT_PUBLISHER");
  });
  test("when the signer is unknown", async () => {
    expect(codeFor(await withIndex({}, newKey()))).toBe("KL_BUNDLE_UNKNOWN_KEY");
  });
  test("when a publisher claims a builder that is bound to another key", () => {
    const bound = parsePolicy(policyText({ publisher, other }, rule({ builderKey: "other" })));
    expect(codeFor(full, bound)).toBe("KL_VERDICT_BUILDER");
  });
  test("when the rule names another source", () => {
    const elsewhere = parsePolicy(policyText({ publisher }, rule({ source: "https://git.example/other" })));
    expect(codeFor(full, elsewhere)).toBe("KL_VERDICT_SOURCE");
  });
  test("when the rule pins another revision", () => {
    const pinned = parsePolicy(policyText({ publisher }, `${rule()}        revision: "v1"\n`));
    expect(codeFor(full, pinned)).toBe("KL_VERDICT_SOURCE");
  });
  test("when a variant has no statement of its own", () => {
    expect(codeFor(full.slice(0, 2))).toBe("KL_VERDICT_MISSING");
    expect(codeFor(full.slice(1))).toBe("KL_VERDICT_MISSING");
    expect(codeFor([])).toBe("KL_VERDICT_MISSING");
  });
  test("when a variant is covered by another variant's statement", async () => {
    const [v3, v4] = kernel.variants;
    const swapped = await evidence(publisher, { scope: "variant", variant: v3!.key, digest: v4!.manifest });
    expect(codeFor([...full.slice(0, 2), swapped])).toBe("KL_VERDICT_SCOPE");
    const attachedElsewhere = { subject: v4!.manifest, bundle: full[1]!.bundle };
    expect(codeFor([...full.slice(0, 2), attachedElsewhere])).toBe("KL_VERDICT_SUBJECT");
  });
  test("when no rule matches", () => {
    const elsewhere = parsePolicy(policyText({ publisher }, rule({ match: "evil/*" })));
    expect(codeFor(full, elsewhere)).toBe("KL_POLICY_NO_RULE");
  });
  test("when one of two matching rules is not satisfied", () => {
    const both = parsePolicy(
      policyText({ publisher, other }, rule() + rule({ match: "acme/norm", publisher: "other" })),
    );
    expect(codeFor(full, both)).toBe("KL_VERDICT_PUBLISHER");
  });
  test("when the key's window is over by the caller's clock", () => {
    const brief = parsePolicy(policyText({ publisher: { ...publisher, validUntil: "2026-11-25T00:00:00Z" } }));
    expect(codeFor(full, brief)).toBe("no refusal");
    const later = judge({ policy: brief, kernel, evidence: full, now: new Date("2026-11-26T00:00:00Z") });
    expect(codeOf(() => assertAllowed(later, kernel))).toBe("KL_BUNDLE_KEY_WINDOW");
  });
});

test("a refused verdict accepts nothing, and every refusal in it has a code", () => {
  const verdict = decide(full.slice(0, 2));
  expect(verdict.accepted).toEqual([]);
  const walk = (node: Requirement): void => {
    if (!node.ok && node.children.length === 0) expect(node.code).toMatch(/^KL_/);
    node.children.forEach(walk);
  };
  walk(verdict.tree);
});
