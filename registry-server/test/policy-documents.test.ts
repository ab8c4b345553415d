/** Feeds, exceptions and bases of delta audits that a namespace's policy rests on, at a publish. */
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { canonicalJson, type Digest, digestOf } from "@kernlock/kernels/format";
import {
  advisoriesType,
  approvalSubject,
  approvalType,
  auditType,
  createBundle,
  exceptionType,
  feedSubject,
  policyDigest,
  revocationsType,
} from "@kernlock/policies/trust";
import { expect, onTestFinished, test } from "vitest";
import {
  attach,
  builderId,
  makePackage,
  newKey,
  policyFor,
  publish,
  pushAll,
  putTag,
  refusal,
  source,
  startRegistry,
  type TestKey,
  type TestPackage,
  temporaryFolder,
} from "./material.ts";

const dayMs = 86_400_000;
const pem = (key: TestKey) => key.pem.trimEnd().replaceAll(/^/gm, "      ");
const named = (id: string, key: TestKey) => `  ${id}:\n    pem: |\n${pem(key)}\n`;

/** The test policy with more keys and more of everything else. */
function policyWith(team: TestKey, keys: Record<string, TestKey>, more: string, rule = ""): string {
  const others = Object.entries(keys).map(([id, key]) => named(id, key));
  return policyFor(team)
    .replace("rules:", `${others.join("")}rules:`)
    .replace("numerics:", `${rule}numerics:`)
    .concat(more);
}

const statement = (name: string, digest: Digest, predicateType: string, predicate: unknown) =>
  Buffer.from(
    JSON.stringify({
      _type: "https://in-toto.io/Statement/v1",
      subject: [{ name, digest: { sha256: digest.slice("sha256:".length) } }],
      predicateType,
      predicate,
    }),
  );

interface FeedText {
  readonly id?: string;
  readonly issued?: Date;
  readonly revocations?: readonly object[];
}

function feedBundle(key: TestKey, sequence: number, text: FeedText = {}): Promise<Uint8Array> {
  const { id = "revoked", issued = new Date(), revocations = [] } = text;
  const value = { feed: id, sequence, issued: issued.toISOString(), revocations };
  return createBundle(statement(feedSubject(id), digestOf(canonicalJson(value)), revocationsType, value), key);
}

const feeds = `revocations:
  - { id: revoked, url: "https://feeds.invalid/revoked.json", by: [security], maxAgeDays: 7 }
`;
const missing = [403, "DENIED", "KL_FEED_MISSING"];

async function withFeed(now?: () => Date) {
  const at = await startRegistry(now === undefined ? {} : { now });
  const security = newKey();
  await at.registry.setPolicy({ namespace: "acme", policy: policyWith(at.key, { security }, feeds) });
  const set = async (bytes: Uint8Array) => at.registry.setFeed({ namespace: "acme", feed: "revoked", bytes });
  return { ...at, security, set };
}

test("a policy that names a feed refuses with its code until the feed is brought", async () => {
  const at = await withFeed();
  const pack = makePackage();
  await pushAll(at, pack);
  const answer = await putTag(at, pack);
  const [error] = ((await answer.clone().json()) as { errors: { detail: Record<string, string> }[] }).errors;
  expect(await refusal(answer)).toEqual(missing);
  expect(error!.detail.remedy).toContain("kernlock registry namespace feed");
  expect(await at.registry.listFeeds("acme")).toMatchObject([{ id: "revoked", held: null, code: "KL_FEED_MISSING" }]);

  expect(await at.set(await feedBundle(at.security, 3))).toMatchObject({ outcome: "taken", sequence: 3 });
  expect(await at.registry.listFeeds("acme")).toMatchObject([{ held: { sequence: 3 }, code: null }]);
  expect((await putTag(at, pack)).status).toBe(201);

  await at.registry.removeFeed({ namespace: "acme", feed: "revoked" });
  const next = makePackage({ version: "1.0.1" });
  await pushAll(at, next);
  expect(await refusal(putTag(at, next))).toEqual(missing);
});

test("what a feed revokes cannot be published", async () => {
  const at = await withFeed();
  const kernel = { kind: "kernel", name: "acme/norm", versions: "<1.1.0", reason: "wrong results" };
  await at.set(await feedBundle(at.security, 1, { revocations: [kernel] }));
  const [old, fixed] = [makePackage(), makePackage({ version: "1.1.0" })];
  for (const pack of [old, fixed]) await pushAll(at, pack);
  expect(await refusal(putTag(at, old))).toEqual([403, "DENIED", "KL_VERDICT_REVOKED"]);
  expect((await putTag(at, fixed)).status).toBe(201);

  const signer = digestOf(at.key.publicKey.export({ type: "spki", format: "der" }));
  await at.set(
    await feedBundle(at.security, 2, { revocations: [{ kind: "signer", signer, reason: "key was stolen" }] }),
  );
  const stolen = makePackage({ version: "1.2.0" });
  await pushAll(at, stolen);
  expect(await refusal(putTag(at, stolen))).toEqual([403, "DENIED", "KL_VERDICT_REVOKED"]);
});

test("a copy that the policy does not accept changes nothing", async () => {
  const at = await withFeed();
  await at.set(await feedBundle(at.security, 5));
  const other = { revocations: [{ kind: "builder", id: "https://builder.example/two", reason: "gone" }] };
  const refused: readonly [string, Uint8Array][] = [
    ["KL_FEED_ROLLBACK", await feedBundle(at.security, 4)],
    ["KL_FEED_ROLLBACK", await feedBundle(at.security, 5, other)],
    ["KL_FEED_INVALID", await feedBundle(newKey(), 6)],
    ["KL_FEED_SIGNER", await feedBundle(at.key, 6)],
    ["KL_FEED_STALE", await feedBundle(at.security, 6, { issued: new Date(Date.now() - 8 * dayMs) })],
    ["KL_FEED_FUTURE", await feedBundle(at.security, 6, { issued: new Date(Date.now() + dayMs) })],
    ["KL_FEED_INVALID", await feedBundle(at.security, 6, { id: "others" })],
    ["KL_FEED_INVALID", Buffer.from("{}")],
    ["KL_FEED_INVALID", Buffer.alloc(9 << 20)],
  ];
  for (const [code, bytes] of refused) await expect(at.set(bytes), code).rejects.toMatchObject({ code });
  const unnamed = at.registry.setFeed({ namespace: "acme", feed: "unnamed", bytes: await feedBundle(at.security, 9) });
  await expect(unnamed).rejects.toMatchObject({ code: "KL_REGISTRY_FEED_UNNAMED" });
  expect(await at.registry.listFeeds("acme")).toMatchObject([{ held: { sequence: 5 }, code: null }]);
  const taken = (await at.registry.auditAfter(0, 100)).filter(({ action }) => action === "feed.take");
  expect(taken.map(({ subject }) => subject)).toEqual(["acme revoked"]);
});

test("a feed that is not renewed grows too old, and then nothing is published", async () => {
  let now = new Date();
  const at = await withFeed(() => now);
  await at.set(await feedBundle(at.security, 1));
  now = new Date(Date.now() + 8 * dayMs);
  const pack = makePackage();
  await pushAll(at, pack);
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_FEED_STALE"]);
  expect(await at.registry.listFeeds("acme")).toMatchObject([{ code: "KL_FEED_STALE" }]);
  await at.set(await feedBundle(at.security, 2, { issued: now }));
  expect((await putTag(at, pack)).status).toBe(201);
});

test("a feed at an address is renewed, and its last copy stands while the address fails", async () => {
  const at = await withFeed();
  let answer: Uint8Array | number = await feedBundle(at.security, 1);
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    if (typeof answer !== "number") return void response.end(answer);
    response.writeHead(answer, { location: "/elsewhere" }).end();
  });
  onTestFinished(() => void server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/revoked.json`;

  await at.registry.setFeed({ namespace: "acme", feed: "revoked", url });
  const refresh = async () => (await at.registry.refreshFeeds("acme"))[0];
  expect(await refresh()).toMatchObject({ outcome: "same", sequence: 1 });
  answer = await feedBundle(at.security, 2);
  expect(await refresh()).toMatchObject({ outcome: "taken", sequence: 2 });

  for (const [bad, problem] of [
    [503, /KL_FEED_FETCH.*status 503/],
    // Where the registry connects to is the operator's decision alone.
    [302, /KL_FEED_FETCH.*status 302/],
    [await feedBundle(at.security, 1), /KL_FEED_ROLLBACK/],
    [Buffer.alloc(9 << 20), /KL_FEED_FETCH.*too large/],
  ] as const) {
    answer = bad;
    expect((await refresh())?.problem).toMatch(problem);
    expect(await at.registry.listFeeds("acme")).toMatchObject([
      { held: { url, sequence: 2, problem: expect.stringMatching(problem) }, code: null },
    ]);
  }
  expect(new Set(asked)).toEqual(new Set(["/revoked.json"]));
  for (const address of ["file:///etc/passwd", "http://me:secret@feeds.invalid/", "no address"]) {
    const set = at.registry.setFeed({ namespace: "acme", feed: "revoked", url: address });
    await expect(set).rejects.toMatchObject({ code: "KL_REGISTRY_FEED_ADDRESS" });
  }
});

test("a server renews feeds by itself", async () => {
  const at = await withFeed();
  let answer = await feedBundle(at.security, 1);
  let seen: () => void = () => {};
  const server = createServer((_, response) => {
    response.end(answer);
    seen();
  });
  onTestFinished(() => void server.close());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  await at.registry.setFeed({ namespace: "acme", feed: "revoked", url });
  answer = await feedBundle(at.security, 2);
  const looked = new Promise<void>((done) => {
    seen = done;
  });
  // Another node of the same registry looks when it starts.
  await startAnotherNode(at.folder);
  await looked;
  await expect.poll(async () => (await at.registry.listFeeds("acme"))[0]?.held?.sequence, { timeout: 20_000 }).toBe(2);
});

async function startAnotherNode(folder: string): Promise<void> {
  const { createRegistry } = await import("../index.ts");
  const node = await createRegistry({ dataFolder: folder });
  onTestFinished(() => node.close());
}

test("the operator's policy has its feeds and exceptions beside it", async () => {
  const [operator, security, officer] = [newKey(), newKey(), newKey()];
  const policyFolder = temporaryFolder();
  mkdirSync(join(policyFolder, "exceptions"));
  const key = newKey();
  const policy = policyWith(
    key,
    { security, officer },
    `advisories:
  - { id: osv, file: osv.json }
revocations:
  - { id: revoked, file: revoked.json, by: [security], maxAgeDays: 7 }
exceptions: { by: [officer] }
`,
  );
  writeFileSync(join(policyFolder, "osv.json"), JSON.stringify([advisory("KL-1", "acme/norm")]));
  writeFileSync(join(policyFolder, "revoked.json"), await feedBundle(security, 1));
  const at = await startRegistry({ policy, policyFolder });
  await at.registry.setPolicy({ namespace: "acme", policy: policyFor(key) });
  const pack = makePackage();
  await pushAll({ ...at, key }, pack);
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_VERDICT_ADVISORY"]);
  const waives = await exception(officer, pack, ["advisory:KL-1"]);
  writeFileSync(join(policyFolder, "exceptions", "one.json"), waives);
  expect((await putTag(at, pack)).status).toBe(201);

  // A file that the policy does not accept leaves the one before in its place; one that it accepts counts at once.
  const next = makePackage({ version: "1.0.1" });
  await pushAll({ ...at, key }, next);
  writeFileSync(join(policyFolder, "osv.json"), "{");
  expect(await refusal(putTag(at, next))).toEqual([403, "DENIED", "KL_VERDICT_ADVISORY"]);
  // An exception of the namespace's counts where the operator's policy names who signed it.
  await at.registry.keepException({ namespace: "acme", bundle: await exception(officer, next, ["advisory:KL-1"]) });
  writeFileSync(join(policyFolder, "revoked.json"), await feedBundle(operator, 2, { revocations: [everything] }));
  expect((await putTag(at, next)).status).toBe(201);
  writeFileSync(join(policyFolder, "revoked.json"), await feedBundle(security, 2, { revocations: [everything] }));
  const last = makePackage({ version: "1.0.2" });
  await pushAll({ ...at, key }, last);
  expect(await refusal(putTag(at, last))).toEqual([403, "DENIED", "KL_VERDICT_REVOKED"]);
});

const everything = { kind: "kernel", name: "acme/norm", versions: "*", reason: "all of it" };
const advisory = (id: string, name: string) => ({
  schema_version: "1.6.0",
  id,
  modified: "2026-01-01T00:00:00Z",
  summary: "Wrong results",
  affected: [
    {
      package: { ecosystem: "Kernlock", name },
      ranges: [{ type: "SEMVER", events: [{ introduced: "0" }] }],
    },
  ],
});

function exception(
  key: TestKey,
  pack: TestPackage,
  waives: readonly string[],
  days = 5,
  from = 0,
): Promise<Uint8Array> {
  const issued = new Date(Date.now() + from * dayMs);
  const value = {
    ...{ package: pack.name, version: pack.version, waives, reason: "The audit comes on Monday." },
    ...{ issued: issued.toISOString(), expires: new Date(issued.getTime() + days * dayMs).toISOString() },
  };
  return createBundle(statement(pack.name, pack.digest, exceptionType, value), key);
}

const audited = `    require: { audit: { by: [auditor], criteria: [reviewed] } }\n`;

async function withAudits() {
  const at = await startRegistry();
  const [auditor, officer] = [newKey(), newKey()];
  const more = "criteria: { reviewed: {} }\nexceptions: { by: [officer], maxDays: 10 }\n";
  await at.registry.setPolicy({ namespace: "acme", policy: policyWith(at.key, { auditor, officer }, more, audited) });
  return { ...at, auditor, officer };
}

function audit(pack: TestPackage, from?: TestPackage, result = "pass"): Uint8Array {
  return statement(pack.name, pack.digest, auditType, {
    kernlock: {
      ...{ package: pack.name, version: pack.version, variant: null, scope: "index" },
      issued: new Date().toISOString(),
    },
    kind: from === undefined ? "full" : "delta",
    ...(from === undefined ? {} : { from: { version: from.version, digest: from.digest } }),
    criteria: ["reviewed"],
    result,
  });
}

test("a dated exception lets one version in, and says so where the version is shown", async () => {
  const at = await withAudits();
  const pack = makePackage();
  await pushAll(at, pack);
  expect(await refusal(putTag(at, pack))).toEqual([403, "DENIED", "KL_VERDICT_AUDIT_MISSING"]);

  const keep = (bundle: Uint8Array) => at.registry.keepException({ namespace: "acme", bundle });
  // None of these waives anything, and the refusal says why.
  for (const [code, bundle] of [
    ["KL_EXCEPTION_SIGNER", await exception(at.auditor, pack, ["audit"])],
    ["KL_EXCEPTION_EXPIRED", await exception(at.officer, pack, ["audit"], 5, -6)],
    ["KL_EXCEPTION_TOO_LONG", await exception(at.officer, pack, ["audit"], 11)],
  ] as const) {
    const { digest } = await keep(bundle);
    const answer = await putTag(at, pack);
    expect(JSON.stringify(await answer.json())).toContain(code);
    expect(answer.status).toBe(403);
    expect(await at.registry.removeException({ namespace: "acme", digest })).toBe(true);
  }
  await expect(keep(await createBundle(audit(pack), at.officer))).rejects.toMatchObject({
    code: "KL_REGISTRY_EXCEPTION",
  });

  const good = await exception(at.officer, pack, ["audit"]);
  expect(await keep(good)).toMatchObject({ outcome: "kept", kind: "exception", subject: pack.digest });
  expect(await keep(good)).toMatchObject({ outcome: "same" });
  expect((await putTag(at, pack)).status).toBe(201);
  const document = await (await fetch(`${at.origin}/api/v1/kernels/acme/norm/1.0.0`)).json();
  expect(document).toMatchObject({ waivers: [{ kind: "exception", requirement: "audit" }], verdict: { ok: true } });
  const entry = (await at.registry.auditAfter(0, 100)).find(({ action }) => action === "version.publish");
  expect(entry?.details).toContain("The audit comes on Monday.");

  // It is for that version alone.
  const next = makePackage({ version: "1.0.1" });
  await pushAll(at, next);
  expect(await refusal(putTag(at, next))).toEqual([403, "DENIED", "KL_VERDICT_AUDIT_MISSING"]);
});

test("a policy that has to be signed lets nothing in until it is", async () => {
  const [key, security, officer] = [newKey(), newKey(), newKey()];
  const demand = "approval: { by: [security, officer], atLeast: 2, maxDays: 30 }\n";
  const at = await startRegistry({ policy: policyWith(key, { security, officer }, demand) });
  const policy = policyFor(key);
  await at.registry.setPolicy({ namespace: "acme", policy });
  const pack = makePackage();
  await pushAll({ ...at, key }, pack);
  const approve = async (by: TestKey, text = policy, days = 0) => {
    const issued = new Date(Date.now() - days * dayMs).toISOString();
    const bytes = statement(approvalSubject, policyDigest(text), approvalType, { issued });
    return at.registry.keepException({ namespace: "acme", bundle: await createBundle(bytes, by) });
  };
  const refused = [403, "DENIED", "KL_POLICY_APPROVAL"];
  expect(await refusal(putTag(at, pack))).toEqual(refused);
  expect(await approve(security)).toMatchObject({ kind: "approval", subject: policyDigest(policy) });
  for (const of of [
    () => approve(security),
    () => approve(key),
    () => approve(officer, "x"),
    () => approve(officer, policy, 31),
  ]) {
    await of();
    expect(await refusal(putTag(at, pack))).toEqual(refused);
  }
  await approve(officer);
  expect((await putTag(at, pack)).status).toBe(201);
  // They signed this policy and no other.
  await at.registry.setPolicy({ namespace: "acme", policy: `${policy}# looser\n` });
  const next = makePackage({ version: "1.0.1" });
  await pushAll({ ...at, key }, next);
  expect(await refusal(putTag(at, next))).toEqual(refused);
});

test("a delta audit rests on the audit of a published version, and on nothing else", async () => {
  const at = await withAudits();
  const [base, next] = [makePackage(), makePackage({ version: "1.1.0" })];
  await pushAll(at, next);
  await attach(at, at.write, next, audit(next, base), undefined, at.auditor);
  const refused = [403, "DENIED", "KL_VERDICT_AUDIT_BASE"];
  expect(await refusal(putTag(at, next)), "the base is not here").toEqual(refused);
  await pushAll(at, base);
  await attach(at, at.write, base, audit(base), undefined, at.auditor);
  expect(await refusal(putTag(at, next)), "the base is not published").toEqual(refused);
  expect((await putTag(at, base)).status).toBe(201);
  await at.registry.setVersionState({ repository: "acme/norm", version: "1.0.0", state: "quarantined" });
  expect(await refusal(putTag(at, next)), "the base is withheld").toEqual(refused);
  await at.registry.setVersionState({ repository: "acme/norm", version: "1.0.0", state: "ok" });
  expect((await putTag(at, next)).status).toBe(201);
});

test("a violation in the base of a delta audit counts", async () => {
  const at = await withAudits();
  const [base, next] = [makePackage(), makePackage({ version: "1.1.0" })];
  await pushAll(at, base);
  await attach(at, at.write, base, audit(base), undefined, at.auditor);
  expect((await putTag(at, base)).status).toBe(201);
  await attach(at, at.write, base, audit(base, undefined, "violation"), undefined, at.auditor);
  await pushAll(at, next);
  await attach(at, at.write, next, audit(next, base), undefined, at.auditor);
  expect(await refusal(putTag(at, next))).toEqual([403, "DENIED", "KL_VERDICT_AUDIT_BASE"]);
});

test("a publish that is under way meets the policy that holds at its end", async () => {
  const at = await startRegistry();
  const other = newKey();
  const packs = Array.from({ length: 8 }, (_, i) => makePackage({ version: `1.0.${i}` }));
  for (const pack of packs) await pushAll(at, pack);
  for (const pack of packs) {
    await at.registry.setPolicy({ namespace: "acme", policy: policyFor(at.key) });
    await Promise.all([putTag(at, pack), at.registry.setPolicy({ namespace: "acme", policy: policyFor(other) })]);
    const log = await at.registry.auditAfter(0, 1000);
    const [published, tightened] = [
      log.findLast(({ subject }) => subject === `acme/norm@${pack.version}`),
      log.findLast(({ action }) => action === "namespace.update"),
    ];
    expect(published?.seq ?? 0).toBeLessThan(tightened!.seq);
  }
});

test("a change of publisher or builder is written down at the publish", async () => {
  const at = await startRegistry();
  await publish(at, makePackage());
  await publish(at, makePackage({ version: "1.0.1" }));
  const second = newKey();
  const policy = policyWith(at.key, { second }, "")
    .replace("publishers: [team]", "publishers: [team, second]")
    .replace("keys: [team]", "keys: [team, second]");
  await at.registry.setPolicy({ namespace: "acme", policy });
  await publish({ ...at, key: second }, makePackage({ version: "1.1.0" }));
  const document = async (version: string) =>
    (await (await fetch(`${at.origin}/api/v1/kernels/acme/norm/${version}`)).json()) as Record<string, unknown>;
  expect(await document("1.0.1")).not.toHaveProperty("trust_changes");
  expect(await document("1.1.0")).toMatchObject({
    trust_changes: { since: "1.0.1", changes: [{ what: "signer" }] },
    builders: [builderId],
    source: { repository: source.repository },
  });
  const log = await at.registry.auditAfter(0, 100);
  const entries = log.filter(({ action }) => action === "version.publish");
  expect(entries.map(({ details }) => details.includes("trust_changes"))).toEqual([false, false, true]);
});

test("advisories that warn let a version in", async () => {
  const at = await startRegistry();
  const security = newKey();
  const list = `advisories:\n  - { id: osv, url: "https://feeds.invalid/a.json", by: [security], maxAgeDays: 7, action: warn }\n`;
  await at.registry.setPolicy({ namespace: "acme", policy: policyWith(at.key, { security }, list) });
  const value = {
    ...{ feed: "osv", sequence: 1, issued: new Date().toISOString(), advisories: [advisory("KL-1", "acme/norm")] },
  };
  const bundle = statement(feedSubject("osv"), digestOf(canonicalJson(value)), advisoriesType, value);
  await at.registry.setFeed({ namespace: "acme", feed: "osv", bytes: await createBundle(bundle, security) });
  await publish(at, makePackage());
});
