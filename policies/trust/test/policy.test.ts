import { generateKeyPairSync } from "node:crypto";
import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { parsePolicy, policyDigest } from "../index.ts";
import { matches } from "../policy.ts";
import { codeOf, newKey, policyText, rule } from "./material.ts";

const key = newKey();
const good = policyText({ publisher: { ...key, validUntil: "2027-01-01T00:00:00Z" } });

describe("a policy", () => {
  test("is read as it is written", () => {
    const policy = parsePolicy(good);
    expect(policy.digest).toBe(digestOf(good));
    expect(policyDigest(Buffer.from(good))).toBe(policy.digest);
    expect(policy.keys.get("publisher")?.validUntil).toEqual(new Date("2027-01-01T00:00:00Z"));
    expect(policy.rules[0]?.match).toBe("acme/*");
    expect(policy.numerics.allowDequantization).toBe(false);
    expect(policy.registry).toBeUndefined();
  });

  test("may bind kernels to one registry", () => {
    const at = (origin: string) => `${good}registry:\n  origin: ${origin}\n`;
    expect(parsePolicy(at("https://kernels.example:8443")).registry?.origin).toBe("https://kernels.example:8443");
    for (const bad of ["kernels.example", "https://kernels.example/", "https://a@kernels.example", "file:///x", '""']) {
      expect(codeOf(() => parsePolicy(at(bad)))).toBe("KL_POLICY_FIELD");
    }
  });

  const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey.export({ type: "spki", format: "pem" });
  const privatePem = newKey().privateKey.export({ type: "pkcs8", format: "pem" });
  const cases: [string, string, string][] = [
    ["an unknown field", "KL_POLICY_FIELD", `${good}extra: 1\n`],
    [
      "an unknown field in a rule",
      "KL_POLICY_FIELD",
      good.replace("    publishers:", "    allow: all\n    publishers:"),
    ],
    ["another version", "KL_POLICY_FIELD", good.replace("version: 1", "version: 2")],
    ["a missing field", "KL_POLICY_FIELD", good.replace(/numerics:[\s\S]*$/, "")],
    ["no publishers", "KL_POLICY_FIELD", good.replace("publishers: [publisher]", "publishers: []")],
    ["a pattern across segments", "KL_POLICY_FIELD", good.replace("acme/*", "**")],
    ["a pattern without a namespace", "KL_POLICY_FIELD", good.replace("acme/*", "*")],
    ["a number for a boolean", "KL_POLICY_FIELD", good.replace("false", "0")],
    ["the yes of older YAML", "KL_POLICY_FIELD", good.replace("false", "yes")],
    ["a time without a zone", "KL_POLICY_FIELD", good.replace("2027-01-01T00:00:00Z", "2027-01-01T00:00:00")],
    ["a duplicate key", "KL_POLICY_SYNTAX", `${good}numerics:\n  allowDequantization: true\n`],
    ["an alias", "KL_POLICY_SYNTAX", good.replace("version: 1", "version: &a 1").replace("false", "*a")],
    ["an anchor", "KL_POLICY_SYNTAX", good.replace("version: 1", "version: &a 1")],
    ["a tag", "KL_POLICY_SYNTAX", good.replace("false", "!!bool false")],
    ["an own tag", "KL_POLICY_SYNTAX", good.replace("false", "!mine false")],
    ["a merge key", "KL_POLICY_SYNTAX", good.replace("numerics:\n", "numerics:\n  <<: {}\n")],
    ["a prototype", "KL_POLICY_SYNTAX", good.replace("keys:\n", "keys:\n  __proto__: {}\n")],
    ["two documents", "KL_POLICY_SYNTAX", `${good}---\nversion: 1\n`],
    ["a directive", "KL_POLICY_SYNTAX", `%YAML 1.1\n---\n${good}`],
    ["nothing", "KL_POLICY_SYNTAX", ""],
    ["broken YAML", "KL_POLICY_SYNTAX", "a: [b\n"],
    ["deep nesting", "KL_POLICY_SYNTAX", "[".repeat(20_000)],
    ["too many bytes", "KL_POLICY_SYNTAX", `${good}#${"x".repeat(300_000)}`],
    ["an unknown publisher", "KL_POLICY_REFERENCE", good.replace("publishers: [publisher]", "publishers: [other]")],
    ["an unknown builder key", "KL_POLICY_REFERENCE", good.replace("keys: [publisher]", "keys: [other]")],
    ["a key of another kind", "KL_POLICY_KEY", policyText({ publisher: { pem: String(p384) } })],
    ["a private key", "KL_POLICY_KEY", policyText({ publisher: { pem: String(privatePem) } })],
    ["no key at all", "KL_POLICY_KEY", policyText({ publisher: { pem: "none" } })],
    ["one key under two names", "KL_POLICY_KEY", policyText({ publisher: key, other: key })],
    [
      "a window that never opens",
      "KL_POLICY_KEY",
      policyText({ publisher: { ...key, validFrom: "2028-01-01T00:00:00Z", validUntil: "2027-01-01T00:00:00Z" } }),
    ],
  ];
  test.each(cases)("is refused with %s", (_, code, text) => {
    expect(codeOf(() => parsePolicy(text))).toBe(code);
  });
  test("is refused where it is not UTF-8", () => {
    expect(codeOf(() => parsePolicy(Buffer.from([0xff, 0xfe, 0x20])))).toBe("KL_POLICY_SYNTAX");
  });
  test("may allow nothing", () => {
    expect(parsePolicy(policyText({ publisher: key }, "  []\n")).rules).toEqual([]);
    expect(rule()).toContain("acme/*");
  });
});

test.each([
  ["acme/norm", "acme/norm", true],
  ["acme/norm", "acme/norm2", false],
  ["acme/*", "acme/norm", true],
  ["acme/*", "acme/", true],
  ["acme/*", "evil/acme/norm", false],
  ["acme/*", "acme/norm/x", false],
  ["acme/*", "acmee/norm", false],
  ["acme/n*m", "acme/norm", true],
  ["a.b/*", "axb/norm", false],
  ["*/norm", "acme/norm", true],
  ["acme/*", "acme/norm\n", false],
])("pattern %s on %s: %s", (pattern, name, expected) => {
  expect(matches(pattern, name)).toBe(expected);
});
