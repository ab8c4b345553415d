import { digestOf } from "@kernlock/kernels/format";
import { describe, expect, test } from "vitest";
import { fingerprintOf, judge } from "../index.ts";
import { builderId, kernel, now } from "./material.ts";
import { audit, type FeedParts, feed, outcome, type Person, people, policyWith, published } from "./rules.ts";

const named = "{ id: acme, file: acme.json, by: [security], maxAgeDays: 7 }";
const policyOf = (
  kind: "advisories" | "revocations",
  bytes?: Uint8Array,
  rule = "",
  seen: Record<string, number> = {},
) => policyWith(rule, `${kind}: [${named}]\n`, { feeds: bytes ? new Map([["acme", bytes]]) : new Map(), seen });

const osv = (affected: object, more: object = {}) => ({
  id: "KSA-2026-1",
  modified: "2026-11-01T00:00:00Z",
  affected: [{ package: { ecosystem: "Kernlock", name: kernel.name }, ...affected }],
  ...more,
});
const range = (...events: object[]) => ({ ranges: [{ type: "SEMVER", events }] });

describe("advisories", () => {
  const with_ = async (record: object) => outcome(policyOf("advisories", await feed("advisories", [record])));
  test.each([
    ["a range without an end", range({ introduced: "0" })],
    ["a range that ends later", range({ introduced: "1.0.0" }, { fixed: "1.2.4" })],
    ["the last affected version", range({ introduced: "1.0.0" }, { last_affected: "1.2.3" })],
    ["the second of two ranges", range({ introduced: "0" }, { fixed: "1.0.0" }, { introduced: "1.2.0" })],
    ["events out of order", range({ fixed: "2.0.0" }, { introduced: "1.0.0" })],
    ["a list of versions", { versions: ["1.0.0", "1.2.3"] }],
    ["no versions at all", {}],
    ["a version that cannot be compared", range({ introduced: "one" })],
  ])("refuse what they are about: %s", async (_, affected) => {
    expect(await with_(osv(affected))).toBe("KL_VERDICT_ADVISORY");
  });
  test.each([
    ["that was fixed before", osv(range({ introduced: "0" }, { fixed: "1.2.3" }))],
    ["that begins later", osv(range({ introduced: "1.2.4" }))],
    ["that was withdrawn", osv(range({ introduced: "0" }), { withdrawn: "2026-11-02T00:00:00Z" })],
    ["of another package", osv({ package: { ecosystem: "Kernlock", name: "acme/other" } })],
    ["of another ecosystem", osv({ package: { ecosystem: "npm", name: kernel.name } })],
  ])("let pass one %s", async (_, record) => expect(await with_(record)).toBe("allowed"));
  test("only warn where the policy says so, and name the version that is safe", async () => {
    const bytes = await feed("advisories", [osv(range({ introduced: "0" }, { fixed: "1.2.9" }))]);
    const warn = policyWith(
      "",
      `advisories: [{ id: acme, file: a.json, by: [security], maxAgeDays: 7, action: warn }]\n`,
      {
        feeds: new Map([["acme", bytes]]),
      },
    );
    const verdict = judge({ policy: warn, kernel, evidence: published, now });
    expect(verdict.ok).toBe(true);
    expect(verdict.warnings.map(({ code, reason }) => [code, reason?.includes("1.2.9")])).toEqual([
      ["KL_VERDICT_ADVISORY", true],
    ]);
  });
  test("may be a plain local file, strictly read", () => {
    const plain = (text: string) =>
      outcome(
        policyWith("", "advisories: [{ id: acme, file: osv.json }]\n", {
          feeds: new Map([["acme", Buffer.from(text)]]),
        }),
      );
    expect(plain(JSON.stringify(osv(range({ introduced: "0" }))))).toBe("KL_VERDICT_ADVISORY");
    expect(plain(JSON.stringify([osv(range({ introduced: "9.0.0" }))]))).toBe("allowed");
    expect(plain("{}")).toBe("KL_FEED_INVALID");
    expect(plain('[{"id":"a","id":"b"}]')).toBe("KL_FEED_INVALID");
  });
});

describe("a signed feed is refused", () => {
  const cases: [string, string, FeedParts, Person?][] = [
    ["that is too old", "KL_FEED_STALE", { issued: "2026-11-17T11:59:59Z" }],
    ["that has expired", "KL_FEED_STALE", { expires: "2026-11-24T12:00:00Z" }],
    ["from the future", "KL_FEED_FUTURE", { issued: "2026-11-24T13:00:00Z" }],
    ["that is older than one that was seen", "KL_FEED_ROLLBACK", { sequence: 4 }],
    ["signed by somebody else", "KL_FEED_SIGNER", {}, "alice"],
    ["of another name", "KL_FEED_INVALID", { feed: "other" }],
    ["with another subject", "KL_FEED_INVALID", { subjectName: "feed:other" }],
    ["whose subject is something else", "KL_FEED_INVALID", { digest: digestOf("x") }],
    ["of another kind", "KL_FEED_INVALID", { type: "https://kernlock.dev/feed/revocations/v1" }],
    ["with a number that is none", "KL_FEED_INVALID", { sequence: 0 }],
  ];
  test.each(cases)("%s", async (_, code, parts, by) => {
    const bytes = await feed("advisories", [], by ?? "security", parts);
    expect(outcome(policyOf("advisories", bytes, "", { acme: 5 }))).toBe(code);
  });
  test("that is not there, or is junk", () => {
    expect(outcome(policyOf("advisories"))).toBe("KL_FEED_MISSING");
    expect(outcome(policyOf("advisories", Buffer.from("junk")))).toBe("KL_FEED_INVALID");
  });
  test("below the number of a lock, and the newest of both counts", async () => {
    const policy = policyOf("advisories", await feed("advisories", []), "", { acme: 6 });
    expect(outcome(policy, [], { seen: { acme: 7 } })).toBe("allowed");
    expect(outcome(policy, [], { seen: { acme: 8 } })).toBe("KL_FEED_ROLLBACK");
    expect(judge({ policy, kernel, evidence: published, now }).sequences).toEqual({ acme: 7 });
  });
});

describe("revocations", () => {
  const reason = "It was stolen.";
  const signer = fingerprintOf(people.publisher.publicKey);
  const revoke = async (entry: object, rule = "") => policyOf("revocations", await feed("revocations", [entry]), rule);
  test.each([
    ["a signer", { kind: "signer", signer, reason }],
    [
      "a signer since a time before which no trusted clock speaks",
      { kind: "signer", signer, since: "2026-11-20T00:00:00Z", reason },
    ],
    ["a builder", { kind: "builder", id: builderId, reason }],
    ["an index", { kind: "digest", digest: kernel.index, reason }],
    ["a variant", { kind: "digest", digest: kernel.variants[1]!.manifest, reason }],
    ["versions", { kind: "kernel", name: kernel.name, versions: ">=1.0.0 <2", reason }],
  ])("of %s refuse", async (_, entry) => expect(outcome(await revoke(entry))).toBe("KL_VERDICT_REVOKED"));
  test.each([
    ["another signer", { kind: "signer", signer: digestOf("x"), reason }],
    ["another digest", { kind: "digest", digest: digestOf("x"), reason }],
    ["other versions", { kind: "kernel", name: kernel.name, versions: "<1", reason }],
    ["another kernel", { kind: "kernel", name: "acme/other", versions: "*", reason }],
  ])("of %s do not", async (_, entry) => expect(outcome(await revoke(entry))).toBe("allowed"));
  test("of one audit or of an auditor's key leave others", async () => {
    const rule = "require: { audit: { by: [alice, bob], criteria: [reviewed] } }";
    const policy = await revoke({ kind: "signer", signer: fingerprintOf(people.alice.publicKey), reason }, rule);
    expect(outcome(policy, [await audit("alice")])).toBe("KL_VERDICT_AUDIT_MISSING");
    expect(outcome(policy, [await audit("alice2")])).toBe("allowed");
    expect(outcome(policy, [await audit("alice"), await audit("bob")])).toBe("allowed");
  });
  test("that say nothing that is known are refused as a whole", async () => {
    expect(outcome(await revoke({ kind: "everything", reason }))).toBe("KL_FEED_INVALID");
    expect(outcome(await revoke({ kind: "kernel", name: kernel.name, versions: "not a range", reason }))).toBe(
      "KL_FEED_INVALID",
    );
  });
  test("still hold when they are stale", async () => {
    const old = await feed("revocations", [{ kind: "digest", digest: kernel.index, reason }], "security", {
      issued: "2026-01-01T00:00:00Z",
    });
    const verdict = judge({ policy: policyOf("revocations", old), kernel, evidence: published, now });
    const codes = verdict.tree.children.filter(({ ok }) => !ok).map(({ code }) => code);
    expect(codes).toEqual(["KL_FEED_STALE", "KL_VERDICT_REVOKED"]);
  });
});
