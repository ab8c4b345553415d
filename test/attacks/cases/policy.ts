import { type Digest, digestOf } from "@kernlock/kernels/format";
import { source as theirs } from "../../../policies/trust/test/material.ts";
import {
  audit,
  breakGlass,
  exception,
  feed,
  people,
  policyText,
  testResult,
} from "../../../policies/trust/test/rules.ts";
import { source } from "../../../registry-server/test/material.ts";
import { type Attack, everywhere, pinned, type Twist } from "../attack.ts";
import type { Pack } from "../pack.ts";

/** Alice, Bob and Carol audit; Alice has two keys; security and officer give exceptions and sign feeds. */
function text(rule: string, more = ""): string {
  return policyText(rule, more).replaceAll(theirs.repository, source.repository);
}

type Row = [number: Attack["number"], name: string, refused: `KL_${string}` | Attack["refused"], how: Twist];

const at = (pack: Pack) => ({ digest: digestOf(pack.index), version: pack.version });
const variantOf = (pack: Pack, n: number) => {
  const { key, manifest } = pack.variants[n]!;
  return { digest: digestOf(manifest), variant: key, version: pack.version };
};
type More = (pack: Pack) => Promise<{ subject: Digest; bundle: Uint8Array }>[];
const evidence = (more: More): Pick<Twist, "evidence"> => ({
  evidence: async (pack) => [...pack.evidence, ...(await Promise.all(more(pack)))],
});
const audited = (more: More, demand = "audit: { by: [alice, bob, carol], criteria: [reviewed] }"): Twist => ({
  signer: people.publisher,
  policy: () => text(`require: { ${demand} }`),
  ...evidence(more),
});
const two = "audit: { by: [alice, bob, carol], criteria: [reviewed], atLeast: 2 }";
const own = "audit: { by: [publisher, alice], criteria: [reviewed] }";
const fresh = "audit: { by: [alice], criteria: [reviewed], maxAgeDays: 7 }";
const tested = 'test: { by: [alice, bob], suites: [numerics], devices: ["H100"] }';
const base = { version: "0.9.0", digest: digestOf("an older index") };

const gate = (rule: string): Twist => ({ signer: people.publisher, policy: () => text(rule) });
const advisory = (fields: object = {}) => ({
  id: "KSA-1",
  modified: "2026-11-01T00:00:00Z",
  affected: [
    {
      package: { ecosystem: "Kernlock", name: "acme/norm" },
      ranges: [{ type: "SEMVER", events: [{ introduced: "0" }, { fixed: "1.0.1" }] }],
    },
  ],
  ...fields,
});
/** A policy that names one feed, and the feed as it came. */
function fed(
  kind: "advisories" | "revocations",
  bytes: (pack: Pack) => Promise<Uint8Array | undefined>,
  seen?: number,
): Twist {
  return {
    signer: people.publisher,
    policy: () => text("", `${kind}: [{ id: acme, file: feed.json, by: [security], maxAgeDays: 7 }]\n`),
    documents: async (pack) => {
      const found = await bytes(pack);
      return { feeds: found ? { acme: found } : {}, ...(seen === undefined ? {} : { seen: { acme: seen } }) };
    },
  };
}
const clear = () => feed("advisories", []);
/** Evidence that lacks an audit, and an exception that pretends to stand for it. */
function excepted(
  bundles: (pack: Pack) => Promise<Uint8Array>[],
  authorities = "exceptions: { by: [security, officer], atLeast: 2, maxDays: 30 }\nbreakGlass: { by: [officer], maxDays: 3 }\n",
): Twist {
  return {
    signer: people.publisher,
    policy: () => text("require: { audit: { by: [alice], criteria: [reviewed] } }", authorities),
    documents: async (pack) => ({ exceptions: await Promise.all(bundles(pack)) }),
  };
}
const missing = "KL_VERDICT_AUDIT_MISSING";
const bad = (code: `KL_${string}`, policy: string): [`KL_${string}`, Twist] => [code, { policy: () => policy }];
const plain = () => text("");

const rows: Row[] = [
  [55, "a publisher that audits itself", "KL_VERDICT_SELF_AUDIT", audited((p) => [audit("publisher", at(p))], own)],
  [
    56,
    "one auditor with two keys, where two are demanded",
    "KL_VERDICT_THRESHOLD",
    audited((p) => [audit("alice", at(p)), audit("alice2", at(p))], two),
  ],
  [
    56,
    "one auditor twice, where two are demanded",
    "KL_VERDICT_THRESHOLD",
    audited((p) => [audit("bob", at(p)), audit("bob", { ...at(p), criteria: ["audited"] })], two),
  ],
  [
    57,
    "an audit that expired",
    "KL_VERDICT_EXPIRED",
    audited((p) => [audit("alice", { ...at(p), expires: "2026-11-20T00:00:00Z" })]),
  ],
  [
    57,
    "an audit that is older than the rule takes",
    "KL_VERDICT_EXPIRED",
    audited((p) => [audit("alice", at(p))], fresh),
  ],
  [
    58,
    "a delta audit whose base nobody audited",
    "KL_VERDICT_AUDIT_BASE",
    audited((p) => [audit("alice", { ...at(p), from: base })]),
  ],
  [
    58,
    "a delta audit that builds on itself",
    "KL_VERDICT_AUDIT_BASE",
    audited((p) => [audit("alice", { ...at(p), from: at(p) })]),
  ],
  [
    58,
    "a delta audit without a base",
    "KL_VERDICT_AUDIT_FORM",
    audited((p) => [audit("alice", { ...at(p), kind: "delta" })]),
  ],
  [
    59,
    "an audit of one variant used for the other",
    "KL_VERDICT_SUBJECT",
    audited((p) => [
      audit("alice", variantOf(p, 0)),
      audit("alice", { ...variantOf(p, 0), attachedTo: variantOf(p, 1).digest }),
    ]),
  ],
  [
    60,
    "two passes and one violation",
    "KL_VERDICT_AUDIT_VIOLATION",
    audited((p) => [audit("alice", at(p)), audit("bob", at(p)), audit("carol", { ...at(p), result: "violation" })]),
  ],
  [
    60,
    "a violation of one variant, attached elsewhere",
    "KL_VERDICT_AUDIT_VIOLATION",
    audited((p) => [
      audit("alice", at(p)),
      audit("bob", { ...variantOf(p, 0), attachedTo: at(p).digest, result: "violation" }),
    ]),
  ],
  ["own", "an audit by nobody whom the rule names", "KL_VERDICT_AUDITOR", audited((p) => [audit("security", at(p))])],
  [
    "own",
    "an audit for weaker criteria",
    "KL_VERDICT_AUDIT_CRITERIA",
    audited((p) => [audit("alice", { ...at(p), criteria: ["read"] })]),
  ],
  [
    "own",
    "an audit from the future",
    "KL_VERDICT_FUTURE",
    audited((p) => [audit("alice", { ...at(p), issued: "2027-01-01T00:00:00Z" })]),
  ],
  [
    "own",
    "an audit of another version",
    "KL_VERDICT_PARAMETERS",
    audited((p) => [audit("alice", { ...at(p), version: "0.9.0" })]),
  ],
  ["own", "no audit", missing, audited(() => [])],
  ["own", "a test on another device", "KL_VERDICT_TEST_DEVICE", audited((p) => [testAt("alice", p, "A100")], tested)],
  [
    "own",
    "a test that failed, and one that passed",
    "KL_VERDICT_TEST_FAILED",
    audited((p) => [testAt("alice", p, "H100"), testAt("bob", p, "H100", "FAILED")], tested),
  ],
  [
    "own",
    "a test by nobody whom the rule names",
    "KL_VERDICT_SIGNER",
    audited((p) => [testAt("carol", p, "H100")], tested),
  ],
  ["own", "a licence that is not allowed", "KL_VERDICT_LICENSE", gate("licenses: [MIT]")],
  ["own", "host code where only device images are allowed", "KL_VERDICT_PAYLOAD", gate("payloads: [device-image]")],
  [70, "a version below the oldest that is safe", "KL_VERDICT_MINIMUM_VERSION", gate('minimumVersion: "1.0.1"')],
  [
    "own",
    "a version of no provable age, where a rule wants some",
    "KL_VERDICT_NO_TRUSTED_TIME",
    gate("minimumAgeDays: 3"),
  ],
  [
    70,
    "a version that an advisory is about",
    pinned("KL_VERDICT_ADVISORY"),
    fed("advisories", () => feed("advisories", [advisory()])),
  ],
  [72, "a list of advisories that is missing", pinned("KL_FEED_MISSING"), fed("advisories", async () => undefined)],
  [72, "a list of advisories that is older than one seen", pinned("KL_FEED_ROLLBACK"), fed("advisories", clear, 8)],
  [
    72,
    "a list of advisories that is too old",
    pinned("KL_FEED_STALE"),
    fed("advisories", () => feed("advisories", [], "security", { issued: "2026-11-01T00:00:00Z" })),
  ],
  [
    72,
    "a list of advisories that expired",
    pinned("KL_FEED_STALE"),
    fed("advisories", () => feed("advisories", [], "security", { expires: "2026-11-24T00:00:00Z" })),
  ],
  [
    72,
    "a list of advisories from the future",
    pinned("KL_FEED_FUTURE"),
    fed("advisories", () => feed("advisories", [], "security", { issued: "2026-12-24T00:00:00Z" })),
  ],
  [
    72,
    "a list of advisories by somebody else",
    pinned("KL_FEED_SIGNER"),
    fed("advisories", () => feed("advisories", [], "publisher")),
  ],
  [
    72,
    "the list of another feed, by the right signer",
    pinned("KL_FEED_INVALID"),
    fed("advisories", () => feed("advisories", [], "security", { feed: "other" })),
  ],
  [
    72,
    "a list of revocations passed off as one of advisories",
    pinned("KL_FEED_INVALID"),
    fed("advisories", () => feed("revocations", [])),
  ],
  [
    72,
    "a list of advisories that is no bundle",
    pinned("KL_FEED_INVALID"),
    fed("advisories", async () => Buffer.from("[]")),
  ],
  [
    "own",
    "a digest that was revoked",
    pinned("KL_VERDICT_REVOKED"),
    fed("revocations", (p) => feed("revocations", [{ kind: "digest", digest: at(p).digest, reason: "Stolen." }])),
  ],
  [
    "own",
    "a version that was revoked",
    pinned("KL_VERDICT_REVOKED"),
    fed("revocations", () =>
      feed("revocations", [{ kind: "kernel", name: "acme/norm", versions: "<2.0.0", reason: "Broken." }]),
    ),
  ],
  [
    "own",
    "a signer that was revoked",
    pinned("KL_VERDICT_REVOKED"),
    fed("revocations", () => feed("revocations", [{ kind: "signer", signer: fingerprint(), reason: "Stolen." }])),
  ],
  [
    "own",
    "a builder that was revoked",
    pinned("KL_VERDICT_REVOKED"),
    fed("revocations", () =>
      feed("revocations", [{ kind: "builder", id: "https://builder.example/one", reason: "Broken into." }]),
    ),
  ],
  [
    "own",
    "an exception by one person where two are demanded",
    pinned(missing),
    excepted((p) => [exception("officer", at(p))]),
  ],
  [
    "own",
    "an exception by the publisher",
    pinned(missing),
    excepted((p) => [exception("publisher", at(p))], "exceptions: { by: [security] }\n"),
  ],
  [
    "own",
    "an exception that has ended",
    pinned(missing),
    excepted((p) => [
      exception("officer", { ...at(p), expires: "2026-11-24T00:00:00Z" }),
      exception("security", { ...at(p), expires: "2026-11-24T00:00:00Z" }),
    ]),
  ],
  [
    "own",
    "an exception for too long",
    pinned(missing),
    excepted((p) => [
      exception("officer", { ...at(p), expires: "2027-11-24T00:00:00Z" }),
      exception("security", { ...at(p), expires: "2027-11-24T00:00:00Z" }),
    ]),
  ],
  [
    "own",
    "an exception for other bytes",
    pinned(missing),
    excepted((p) => [
      exception("officer", { ...at(p), digest: digestOf("other") }),
      exception("security", { ...at(p), digest: digestOf("other") }),
    ]),
  ],
  [
    "own",
    "an exception where the policy lets nobody give one",
    pinned(missing),
    excepted((p) => [exception("officer", at(p)), exception("security", at(p))], ""),
  ],
  [
    "own",
    "a break-glass order by somebody who may only give exceptions",
    pinned(missing),
    excepted((p) => [breakGlass("security", at(p))]),
  ],
  [
    "own",
    "a break-glass order for longer than the policy lets it",
    pinned(missing),
    excepted((p) => [
      breakGlass("officer", { ...at(p), issued: "2026-11-20T00:00:00Z", expires: "2026-12-20T00:00:00Z" }),
    ]),
  ],
  [
    "own",
    "a policy with an alias",
    ...both(bad("KL_POLICY_SYNTAX", `${plain().replace("numerics: {", "numerics: &n {")}x: *n\n`)),
  ],
  ["own", "a policy with a tag", ...both(bad("KL_POLICY_SYNTAX", plain().replace("version: 1", "version: !!int 1")))],
  [
    "own",
    "a policy with one field twice",
    ...both(bad("KL_POLICY_SYNTAX", `${plain()}numerics: { allowDequantization: true }\n`)),
  ],
  ["own", "a policy of two documents", ...both(bad("KL_POLICY_SYNTAX", `${plain()}---\nversion: 1\n`))],
  ["own", "a policy with an unknown field", ...both(bad("KL_POLICY_FIELD", `${plain()}trustAll: true\n`))],
  [
    52,
    "a policy whose pattern means everything in both parts",
    ...both(bad("KL_POLICY_FIELD", plain().replace("acme/*", "**"))),
  ],
  [
    52,
    "a policy with a pattern of a regular expression",
    ...both(bad("KL_POLICY_FIELD", plain().replace("acme/*", "acme/.*|evil/x"))),
  ],
  [
    "own",
    "a policy that names a key which it does not have",
    ...both(bad("KL_POLICY_REFERENCE", plain().replace("publishers: [publisher]", "publishers: [mallory]"))),
  ],
  ["own", "a policy with one key under two names", ...both(bad("KL_POLICY_KEY", twice()))],
  [
    "own",
    "a policy that demands more people than it names",
    ...both(
      bad(
        "KL_POLICY_THRESHOLD",
        text("require: { audit: { by: [alice, alice2-key], criteria: [reviewed], atLeast: 2 } }"),
      ),
    ),
  ],
  [
    "own",
    "a policy whose criteria imply each other",
    ...both(bad("KL_POLICY_CRITERIA", plain().replace("read: {}", "read: { implies: [audited] }"))),
  ],
];

/** A policy that cannot be read refuses before anything is looked at; a server refuses to have it as a namespace's. */
function both([code, twist]: [`KL_${string}`, Twist]): [Attack["refused"], Twist] {
  return [{ lock: code, verify: code, load: code }, twist];
}

function twice(): string {
  const [first] = /publisher-key:\n {4}pem: \|\n(?: {6}.*\n)+/.exec(plain()) ?? [""];
  return plain().replace("keys:\n", `keys:\n  again-key:\n${first.slice(first.indexOf("\n") + 1)}`);
}

function testAt(by: "alice" | "bob" | "carol", pack: Pack, device: string, result = "PASSED") {
  // The helper speaks about a fixed version; what is signed must be about this one.
  return testResult(by, { ...at(pack), device, result } as Parameters<typeof testResult>[1]);
}

const fingerprint = () => digestOf(people.publisher.publicKey.export({ type: "spki", format: "der" }));

export const policyAttacks: readonly Attack[] = rows.map(([number, name, refused, how]) => ({
  number,
  name,
  area: "policy",
  refused: typeof refused === "string" ? everywhere(refused) : refused,
  how: () => how,
}));
