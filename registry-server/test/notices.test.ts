/** Advisories, revocations and signed feeds: who files them, who sees them, and that nothing goes back. */

import { canonicalJson, digestOf } from "@kernlock/kernels/format";
import {
  advisoriesType,
  createBundle,
  feedSubject,
  judge,
  parsePolicy,
  revocationsType,
  withDocuments,
} from "@kernlock/policies/trust";
import { expect, test } from "vitest";
import {
  bearer,
  makePackage,
  newKey,
  policyFor,
  publish,
  refusal,
  startRegistry,
  type TestKey,
  type TestRegistry,
} from "./material.ts";

const osv = (id: string, more: object = {}) => ({
  id,
  modified: "2026-11-20T10:00:00Z",
  summary: "Reads past odd row lengths",
  affected: [
    {
      package: { ecosystem: "Kernlock", name: "acme/norm" },
      ranges: [{ type: "SEMVER", events: [{ introduced: "0" }, { fixed: "1.1.0" }] }],
    },
  ],
  ...more,
});

function send(at: TestRegistry, method: string, path: string, token?: string, body?: unknown): Promise<Response> {
  const bytes = body instanceof Uint8Array ? (body as Uint8Array<ArrayBuffer>) : JSON.stringify(body);
  return fetch(at.origin + path, {
    method,
    headers: token === undefined ? {} : bearer(token),
    ...(body === undefined ? {} : { body: bytes }),
  });
}
const json = async (answer: Response | Promise<Response>) => (await answer).json() as Promise<never>;

async function start() {
  const at = await startRegistry();
  const make = async (namespace: string, role: "admin" | "auditor" | "publisher") =>
    (await at.registry.createToken({ namespace, role })).token;
  return { at, auditor: await make("acme", "auditor"), operator: await make("*", "admin") };
}

async function signed(
  kind: "advisories" | "revocations",
  feed: string,
  sequence: number,
  entries: unknown[],
  key: TestKey,
  issued = new Date().toISOString(),
): Promise<Uint8Array> {
  const value = { feed, sequence, issued, [kind]: entries };
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: feedSubject(feed), digest: { sha256: digestOf(canonicalJson(value)).slice("sha256:".length) } }],
    predicateType: kind === "advisories" ? advisoriesType : revocationsType,
    predicate: value,
  };
  return createBundle(Buffer.from(JSON.stringify(statement)), key);
}

test("an auditor files an advisory about packages of its namespace, changes it and withdraws it", async () => {
  const { at, auditor } = await start();
  await publish(at, makePackage());
  expect((await send(at, "PUT", "/api/v1/advisories/AC-1", auditor, osv("AC-1"))).status).toBe(200);
  expect(await json(send(at, "GET", "/api/v1/advisories?package=acme/norm"))).toEqual([osv("AC-1")]);
  // The same again is the same; an older or equally old one with other words is refused.
  expect((await send(at, "PUT", "/api/v1/advisories/AC-1", auditor, osv("AC-1"))).status).toBe(200);
  const older = send(at, "PUT", "/api/v1/advisories/AC-1", auditor, osv("AC-1", { summary: "Nothing" }));
  expect(await refusal(older)).toEqual([409, "DENIED", "KL_REGISTRY_NOTICE_OLDER"]);
  const newer = osv("AC-1", { modified: "2026-11-21T10:00:00Z", summary: "Worse" });
  expect((await send(at, "PUT", "/api/v1/advisories/AC-1", auditor, newer)).status).toBe(200);
  const withdrawn = await json(send(at, "POST", "/api/v1/advisories/AC-1/withdraw", auditor));
  expect(withdrawn).toMatchObject({ id: "AC-1", withdrawn: expect.any(String) });
  expect(await json(send(at, "GET", "/api/v1/advisories"))).toEqual([withdrawn]);
  const actions = (await at.registry.auditAfter(0, 100)).map(({ action }) => action);
  expect(actions.filter((action) => action.startsWith("advisory."))).toEqual([
    "advisory.file",
    "advisory.change",
    "advisory.withdraw",
  ]);
});

test("who may not speak about a package files nothing about it, and takes over no advisory of another", async () => {
  const { at, auditor, operator } = await start();
  const { policy } = (await at.registry.getNamespace("acme"))!;
  await at.registry.createNamespace({ name: "other", policy });
  const foreign = (await at.registry.createToken({ namespace: "other", role: "auditor" })).token;
  const both = osv("X-1", {
    affected: ["acme/norm", "other/norm"].map((name) => ({ package: { ecosystem: "Kernlock", name } })),
  });
  for (const [token, status] of [
    [undefined, 401],
    [at.read, 403],
    [at.write, 403],
    [foreign, 403],
    [auditor, 200],
  ] as const)
    expect((await send(at, "PUT", "/api/v1/advisories/AC-1", token, osv("AC-1"))).status).toBe(status);
  for (const token of [auditor, foreign])
    expect((await send(at, "PUT", "/api/v1/advisories/X-1", token, both)).status).toBe(403);
  expect((await send(at, "PUT", "/api/v1/advisories/X-1", operator, both)).status).toBe(200);
  const own = {
    modified: "2027-01-01T00:00:00Z",
    affected: [{ package: { ecosystem: "Kernlock", name: "other/norm" } }],
  };
  expect((await send(at, "PUT", "/api/v1/advisories/AC-1", foreign, osv("AC-1", own))).status).toBe(403);
  expect((await send(at, "POST", "/api/v1/advisories/AC-1/withdraw", foreign)).status).toBe(403);
  expect((await refusal(send(at, "POST", "/api/v1/advisories/NO-1/withdraw", operator)))[2]).toBe(
    "KL_REGISTRY_NOTICE_UNKNOWN",
  );
});

test.each([
  ["no object", []],
  ["no id", { ...osv("A-1"), id: "" }],
  ["an id with a slash", osv("../A-1")],
  ["no time", osv("A-1", { modified: "yesterday" })],
  ["a foreign ecosystem alone", osv("A-1", { affected: [{ package: { ecosystem: "npm", name: "acme/norm" } }] })],
  ["no package name", osv("A-1", { affected: [{ package: { ecosystem: "Kernlock", name: "Acme" } }] })],
  ["nothing affected", osv("A-1", { affected: [] })],
])("an advisory with %s is refused", async (_, body) => {
  const { at, operator } = await start();
  const answer = send(at, "PUT", "/api/v1/advisories/A-1", operator, body);
  expect((await refusal(answer))[2]).toBe("KL_REGISTRY_ADVISORY_INVALID");
});

test("an advisory about a private package is for its readers", async () => {
  const { at, operator } = await start();
  const { policy } = (await at.registry.getNamespace("acme"))!;
  await at.registry.createNamespace({ name: "secret", visibility: "private", policy });
  const reader = (await at.registry.createToken({ namespace: "secret", role: "reader" })).token;
  const about = osv("S-1", { affected: [{ package: { ecosystem: "Kernlock", name: "secret/norm" } }] });
  await send(at, "PUT", "/api/v1/advisories/S-1", operator, about);
  for (const path of ["/api/v1/advisories", "/api/v1/advisories?package=secret/norm"]) {
    expect(await json(send(at, "GET", path))).toEqual([]);
    expect(await json(send(at, "GET", path, at.read))).toEqual([]);
    expect(await json(send(at, "GET", path, reader))).toEqual([about]);
  }
});

test("revocations: what was filed and what is in quarantine is what the next number has to say", async () => {
  const { at, auditor, operator } = await start();
  const pack = makePackage();
  await publish(at, pack);
  const entry = { kind: "kernel", name: "acme/rope", versions: "<2.0.0", reason: "stolen key" };
  const path = "/api/v1/revocations/filed";
  expect((await send(at, "POST", path, auditor, entry)).status).toBe(403);
  const { id } = (await json(send(at, "POST", path, operator, entry))) as { id: string };
  await at.registry.setVersionState({
    repository: "acme/norm",
    version: "1.0.0",
    state: "quarantined",
    reason: "a\nb",
  });
  expect(await json(send(at, "GET", "/api/v1/revocations/entries"))).toEqual([
    entry,
    { kind: "digest", digest: pack.digest, reason: "acme/norm 1.0.0 is in quarantine: a b" },
  ]);
  await send(at, "POST", `${path}/${id}/withdraw`, operator);
  expect(await json(send(at, "GET", "/api/v1/revocations/entries"))).toHaveLength(1);
  expect((await refusal(send(at, "POST", path, operator, { kind: "kernel", reason: "x" })))[2]).toBe(
    "KL_REGISTRY_ADVISORY_INVALID",
  );
});

test("a feed is served as it was signed, and a policy that names its address judges by it", async () => {
  const { at, operator } = await start();
  const pack = makePackage();
  await publish(at, pack);
  const key = newKey();
  await at.registry.serveFeed({ id: "acme", kind: "revocations", keys: [key.pem] });
  expect((await refusal(send(at, "GET", "/api/v1/feeds/acme")))[2]).toBe("KL_REGISTRY_NO_FEED");
  const entries = [{ kind: "digest", digest: pack.digest, reason: "built by a stolen machine" }];
  const bundle = await signed("revocations", "acme", 3, entries, key);
  expect((await send(at, "PUT", "/api/v1/feeds/acme", operator, bundle)).status).toBe(200);
  const served = await fetch(`${at.origin}/api/v1/feeds/acme`);
  const bytes = new Uint8Array(await served.arrayBuffer());
  expect(digestOf(bytes)).toBe(digestOf(bundle));
  const etag = served.headers.get("etag")!;
  expect((await fetch(`${at.origin}/api/v1/feeds/acme`, { headers: { "if-none-match": etag } })).status).toBe(304);

  const text = `${policyFor(key)}revocations:
  - { id: acme, url: "https://kernels.example/api/v1/feeds/acme", by: [team], maxAgeDays: 7 }
`;
  const policy = withDocuments(parsePolicy(text), { feeds: new Map([["acme", bytes]]), exceptions: [], seen: {} });
  const kernel = {
    name: "acme/norm",
    version: "1.0.0",
    index: pack.digest,
    source: { repository: "", revision: "" },
    variants: [],
  };
  const verdict = judge({ policy, kernel: { ...kernel, license: "MIT" }, evidence: [], now: new Date() });
  expect(JSON.stringify(verdict.tree)).toContain("built by a stolen machine");
  expect(verdict.sequences).toEqual({ acme: 3 });
});

test("a feed never goes back, and only its own keys, name and kind count", async () => {
  const { at, auditor, operator } = await start();
  const [key, other] = [newKey(), newKey()];
  const put = async (bundle: Uint8Array, token = operator) => {
    const answer = await send(at, "PUT", "/api/v1/feeds/acme", token, bundle);
    return answer.ok ? ((await answer.json()) as { sequence: number }).sequence : (await refusal(answer))[2];
  };
  const made = { id: "acme", kind: "advisories", keys: [key.pem] };
  expect((await send(at, "POST", "/api/v1/feeds", auditor, made)).status).toBe(403);
  expect((await send(at, "POST", "/api/v1/feeds", operator, made)).status).toBe(201);
  expect((await send(at, "POST", "/api/v1/feeds", operator, made)).status).toBe(409);
  const fifth = await signed("advisories", "acme", 5, [osv("A-1")], key);
  expect(await put(fifth, auditor)).toBe("KL_REGISTRY_TOKEN_NAMESPACE");
  expect(await put(fifth)).toBe(5);
  expect(await put(fifth)).toBe(5);
  expect(await put(await signed("advisories", "acme", 4, [], key))).toBe("KL_REGISTRY_NOTICE_OLDER");
  expect(await put(await signed("advisories", "acme", 5, [], key))).toBe("KL_REGISTRY_NOTICE_OLDER");
  // A higher number that was issued earlier than the one that stands is no news either.
  expect(await put(await signed("advisories", "acme", 6, [], key, "2020-01-01T00:00:00Z"))).toBe(
    "KL_REGISTRY_NOTICE_OLDER",
  );
  expect(await put(await signed("advisories", "acme", 6, [], key, "2100-01-01T00:00:00Z"))).toBe("KL_FEED_FUTURE");
  expect(await put(await signed("advisories", "acme", 6, [], other))).toMatch(/^KL_BUNDLE_/);
  expect(await put(await signed("advisories", "else", 6, [], key))).toBe("KL_FEED_INVALID");
  expect(await put(await signed("revocations", "acme", 6, [], key))).toBe("KL_FEED_INVALID");
  expect(await put(Buffer.from("{}"))).toMatch(/^KL_BUNDLE_/);
  await at.registry.setFeedKeys("acme", [other.pem]);
  expect(await put(await signed("advisories", "acme", 7, [osv("A-2")], other))).toBe(7);
  const feeds = (await json(send(at, "GET", "/api/v1/feeds"))) as { feeds: object[] };
  expect(feeds.feeds).toMatchObject([{ id: "acme", sequence: 7, url: `${at.origin}/api/v1/feeds/acme` }]);
});
