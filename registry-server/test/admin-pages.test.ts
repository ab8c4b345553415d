/** Pages of administration, without a browser: who gets in, what they say, what their forms do. */
import { expect, test } from "vitest";
import { openMaintenance } from "../index.ts";
import { governed, password } from "./governance.ts";
import { bearer } from "./material.ts";
import { type Visitor, visitor } from "./people.ts";

const pages = ["/admin", "/admin/reviews", "/admin/quarantine", "/admin/gc", "/admin/gc?grace=1h", "/admin/audit"];

async function signedIn(at: { origin: string }, name: "ada" | "bo"): Promise<Visitor> {
  const who = visitor(at.origin);
  expect((await who.send("/signin", "/signin/account", { name, password })).status).toBe(303);
  return who;
}
const textOf = async (answer: Response | Promise<Response>) => (await answer).text();

test("whoever is not signed in is sent to sign in; whoever decides nowhere finds nothing", async () => {
  const at = await governed();
  for (const page of pages) {
    const answer = await visitor(at.origin).get(page);
    expect([answer.status, answer.headers.get("location")]).toEqual([
      303,
      `/signin?return=${encodeURIComponent(page)}`,
    ]);
    for (const token of [at.read, at.write])
      expect((await fetch(at.origin + page, { headers: bearer(token) })).status).toBe(404);
  }
});

test("pages have the strict policy, no script, and are kept nowhere", async () => {
  const at = await governed();
  const ada = await signedIn(at, "ada");
  for (const page of [...pages, "/advisories"]) {
    const answer = await ada.get(page);
    expect(answer.status, page).toBe(200);
    expect(answer.headers.get("content-security-policy"), page).toMatch(/^default-src 'none'; style-src 'self'/);
    expect(answer.headers.get("cache-control"), page).toBe("no-store");
    const text = await answer.text();
    expect(text, page).not.toMatch(/<script|style="|\bon[a-z]+=|undefined|\[object|NaN/);
    expect(text.match(/ id="[^"]*"/g) ?? [], page).toEqual([...new Set(text.match(/ id="[^"]*"/g))]);
  }
});

test("an auditor of one namespace sees its reviews and nothing of the whole registry", async () => {
  const at = await governed();
  const bo = await signedIn(at, "bo");
  expect((await bo.get("/admin")).headers.get("location")).toBe("/admin/reviews");
  for (const page of ["/admin/gc", "/admin/audit"]) expect((await bo.get(page)).status).toBe(404);
  expect(await textOf(bo.get("/admin/reviews"))).toContain("Approve");
  // It may look at what is withheld, and withhold nothing.
  const quarantine = await textOf(bo.get("/admin/quarantine"));
  expect(quarantine).toContain("Its build host was taken over.");
  expect(quarantine).not.toContain('<form action="/admin/quarantine"');
  expect(quarantine).not.toContain("Release");
});

test("a version is approved from its page, and shown to everybody from then on", async () => {
  const at = await governed();
  const bo = await signedIn(at, "bo");
  expect((await fetch(`${at.origin}/kernels/acme/norm/2.0.0`)).status).toBe(404);
  expect(await textOf(bo.get("/kernels/acme/norm/2.0.0"))).toContain("waits for its review");
  // Whoever decides reads the signed statements first; nobody else can.
  const bundle = /href="([^"]+\/bundles\/[^"]+)"/.exec(
    await textOf(bo.get("/kernels/acme/norm/2.0.0/provenance")),
  )![1]!;
  expect([(await bo.get(bundle)).status, (await fetch(at.origin + bundle)).status]).toEqual([200, 404]);
  const answer = await bo.send("/admin/reviews", "/admin/reviews", {
    name: "acme/norm",
    version: "2.0.0",
    decision: "approve",
    reason: "",
  });
  expect([answer.status, answer.headers.get("location")]).toEqual([303, "/admin/reviews?done=approve"]);
  expect((await fetch(`${at.origin}/kernels/acme/norm/2.0.0`)).status).toBe(200);
  const reject = { name: "acme/norm", version: "1.1.0", decision: "reject" };
  expect((await bo.send("/admin/reviews", "/admin/reviews", { ...reject, reason: "" })).status).toBe(400);
  expect((await bo.send("/admin/reviews", "/admin/reviews", { ...reject, reason: "wrong" })).status).toBe(303);
  expect((await bo.send("/admin/reviews", "/admin/reviews", { ...reject, reason: "wrong" })).status).toBe(403);
  const log = await at.registry.auditAfter(0, 1000);
  expect(log.filter(({ action }) => /^version\.(approve|reject)$/.test(action))).toMatchObject([
    { actor: "local:bo", subject: "acme/norm@2.0.0" },
    { actor: "local:bo", subject: "acme/norm@1.1.0" },
  ]);
});

test("a quarantine is set and released; forms of nobody, of another session and of other pages do nothing", async () => {
  const at = await governed();
  const [ada, bo] = [await signedIn(at, "ada"), await signedIn(at, "bo")];
  const change = { name: "acme/norm", version: "1.0.0", state: "quarantined", reason: "key was stolen" };
  const path = "/admin/quarantine";
  expect((await ada.post(path, change)).status).toBe(403);
  expect((await visitor(at.origin).post(path, change)).status).toBe(403);
  const { form_token: foreign = "" } = hidden(await textOf(bo.get("/admin/reviews")));
  const { form_token: elsewhere = "" } = hidden(await textOf(ada.get("/admin/reviews")));
  for (const form_token of [foreign, elsewhere]) {
    expect(form_token).not.toBe("");
    expect((await ada.post(path, { ...change, form_token })).status).toBe(403);
  }
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(200);
  const other = { origin: "https://evil.example" };
  const { form_token = "" } = hidden(await textOf(ada.get(path)));
  expect((await ada.post(path, { ...change, form_token }, other)).status).toBe(403);
  expect((await ada.post(path, { ...change, form_token }, { "sec-fetch-site": "cross-site" })).status).toBe(403);
  expect((await ada.send(path, path, change)).status).toBe(303);
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(403);
  expect(await textOf(ada.get(path))).toContain("key was stolen");
  expect((await ada.send(path, path, { ...change, state: "ok", reason: "" })).status).toBe(303);
  expect((await fetch(`${at.origin}/v2/acme/norm/manifests/1.0.0`)).status).toBe(200);
  expect((await ada.send(path, path, { ...change, version: "7.7.7" })).status).toBe(404);
  expect((await ada.send(path, path, { ...change, state: "gone" })).status).toBe(400);
});

const hidden = (text: string) => ({
  form_token: /name="form_token" value="([^"]+)"/.exec(text.split("<main")[1] ?? "")?.[1],
});

test("health says what is there and when it was looked after", async () => {
  const at = await governed();
  const ada = await signedIn(at, "ada");
  expect(await textOf(ada.get("/admin"))).toContain("never");
  const care = await openMaintenance({ dataFolder: at.folder });
  await care.gc();
  await care.scrub();
  expect(await care.fsck()).toMatchObject({ sound: true });
  await care.backUp(`${at.folder}/backup`);
  const health = await care.health();
  expect(health).toMatchObject({
    problems: { database: null, storage: null },
    database: { kind: "sqlite" },
    storage: { kind: "folder", damaged: 0, disk: { free: expect.any(Number) } },
    counts: { namespaces: 1, kernels: 1, versions: 2 },
    waiting: 2,
    last: {
      scrub: { outcome: { damaged: 0 } },
      fsck: { outcome: { sound: true } },
      backup: { at: expect.any(String) },
    },
  });
  await care.close();
  const text = await textOf(ada.get("/admin"));
  expect(text).toContain("0 damaged");
  expect(text).not.toContain("never");
  const operator = (await at.registry.createToken({ namespace: "*", role: "auditor" })).token;
  const answer = await fetch(`${at.origin}/api/v1/health`, { headers: bearer(operator) });
  expect(await answer.json()).toMatchObject({ waiting: 2, audit: await at.registry.auditHead() });
  expect((await fetch(`${at.origin}/api/v1/health`, { headers: bearer(at.write) })).status).toBe(403);
});

test("the audit log is paged and filtered, and its chain checked", async () => {
  const at = await governed();
  for (let i = 0; i < 60; i++) await at.registry.createToken({ namespace: "acme", role: "reader", label: `t${i}` });
  const ada = await signedIn(at, "ada");
  const newest = await textOf(ada.get("/admin/audit"));
  const { seq, hash } = await at.registry.auditHead();
  expect(newest).toContain(hash);
  const older = /href="(\/admin\/audit\?before=\d+)">Older/.exec(newest)?.[1];
  expect(await textOf(ada.get(older!))).toContain("namespace.create");
  expect(newest).not.toContain("namespace.create");
  const filtered = await textOf(ada.get("/admin/audit?action=version.&subject=acme/norm@0"));
  expect(filtered.match(/<td>version\.\w+<\/td>/g)).toEqual([
    "<td>version.quarantined</td>",
    "<td>version.publish</td>",
  ]);
  expect(await textOf(ada.get("/admin/audit?check=1"))).toContain('<span class="yes">sound</span>');
  for (const odd of ["before=-1", "before=x", "action=%25", "subject=%3Cb%3E", "before=99999999999"])
    expect((await ada.get(`/admin/audit?${odd}`)).status, odd).toBe(200);
  expect(seq).toBeGreaterThan(60);
});

test("advisories stand on the pages of the versions that they are about", async () => {
  const at = await governed();
  const get = (path: string) => textOf(fetch(at.origin + path));
  expect(await get("/kernels/acme/norm/1.0.0")).toContain("An advisory is about 1.0.0.");
  expect(await get("/kernels/acme/norm/versions")).toContain("#advisory-ACME-2026-1");
  const page = await get("/advisories");
  for (const part of [
    "Reads past odd row lengths",
    "from the first, fixed in 2.0.0",
    "acme-revocations",
    "/api/v1/feeds/",
  ])
    expect(page).toContain(part);
  await at.registry.withdrawAdvisory("ACME-2026-1");
  expect(await get("/kernels/acme/norm/1.0.0")).not.toContain("ACME-2026-1");
  expect(await get("/advisories")).toContain("withdrawn");
});
