/** Sessions of the pages: how they begin and end, what they open, and what they never do. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makePackage, policyFor, publish, startRegistry } from "./material.ts";
import { hiddenFields, type Visitor, visitor } from "./people.ts";

const password = "correct horse battery staple";

async function start(options: Parameters<typeof startRegistry>[0] = {}) {
  const at = await startRegistry(options);
  await at.registry.createAccount({ name: "ada", namespace: "*", role: "admin", password });
  return { ...at, who: visitor(at.origin) };
}

const signIn = (who: Visitor, fields: Record<string, string> = {}, from = "/signin") =>
  who.send(from, "/signin/account", { name: "ada", password, ...fields });
const isIn = async (who: Visitor) => (await (await who.get("/namespaces")).text()).includes("Sign out");
const sessionOf = (who: Visitor) => who.cookies.get("kernlock-session")!;

test("an account signs in and out", async () => {
  const { who } = await start();
  expect(await isIn(who)).toBe(false);
  const done = await signIn(who, {}, "/signin?return=/namespaces/acme");
  expect([done.status, done.headers.get("location")]).toEqual([303, "/namespaces/acme"]);
  expect(await isIn(who)).toBe(true);
  const secret = sessionOf(who);
  expect((await who.send("/namespaces", "/signout", {})).status).toBe(303);
  expect(await isIn(who)).toBe(false);
  who.cookies.set("kernlock-session", secret);
  expect(await isIn(who)).toBe(false);
});

test("the cookie is out of scripts' reach, and `__Host-` and Secure behind TLS", async () => {
  const plain = await start();
  await signIn(plain.who);
  const begun = plain.who.lines.find((line) => /^kernlock-session=[\w-]{43};/.test(line))!;
  expect(begun).toMatch(/; Path=\/; Max-Age=43200; HttpOnly; SameSite=Lax$/);

  const tls = await start({ origin: "https://kernels.example.org" });
  const who = visitor(tls.origin.replace(/.*/, () => `http://127.0.0.1:${portOf(tls)}`));
  const page = await (await who.get("/signin")).text();
  const fields = { ...hiddenFields(page, "/signin/account"), name: "ada", password };
  expect((await who.post("/signin/account", fields, { origin: "https://kernels.example.org" })).status).toBe(303);
  expect(who.lines.find((line) => line.startsWith("__Host-kernlock-session="))).toMatch(/SameSite=Lax; Secure$/);
  expect(who.lines.every((line) => line.startsWith("__Host-"))).toBe(true);
  // A neighbouring host can plant a cookie of the plain name; it is not looked at.
  const planted = visitor(`http://127.0.0.1:${portOf(tls)}`);
  planted.cookies.set("kernlock-session", who.cookies.get("__Host-kernlock-session")!);
  expect(await isIn(planted)).toBe(false);
});

const portOf = (at: { registry: { app: { server: { address(): unknown } } } }) =>
  (at.registry.app.server.address() as { port: number }).port;

test("without TLS nobody signs in, but on the machine itself", async () => {
  const at = await start({ origin: "http://kernels.example.org" });
  const who = visitor(`http://127.0.0.1:${portOf(at)}`);
  const answer = await who.get("/signin");
  expect(await answer.text()).toContain("reached without TLS");
  expect(who.lines).toEqual([]);
  const refused = await who.post("/signin/account", { name: "ada", password }, { origin: at.origin });
  expect(refused.status).toBe(403);
});

test("a session opens pages and nothing else", async () => {
  const at = await start();
  await at.registry.createNamespace({ name: "secret", visibility: "private", policy: policyFor(at.key) });
  const { token } = await at.registry.createToken({ namespace: "secret", role: "publisher" });
  const pack = makePackage({ name: "secret/norm" });
  await publish({ ...at, write: token }, pack);
  const { who } = at;
  expect((await who.get("/kernels/secret/norm")).status).toBe(404);
  await signIn(who);
  expect((await who.get("/kernels/secret/norm")).status).toBe(200);
  for (const path of [
    "/api/v1/kernels/secret/norm",
    "/api/v1/kernels/secret/norm/1.0.0",
    "/v2/",
    "/v2/secret/norm/manifests/1.0.0",
    "/v2/secret/norm/tags/list",
    "/api/v1/audit",
    "/metrics",
  ]) {
    expect((await who.get(path)).status, path).toBe(401);
  }
  expect(await (await who.get("/api/v1/search?q=norm")).text()).not.toContain("secret/norm");
  expect((await who.get("/token")).status).toBe(200);
  expect(await (await who.get("/token")).json()).toMatchObject({ token: "klr_anonymous" });
  const yank = { method: "PUT", headers: { cookie: `kernlock-session=${sessionOf(who)}` }, body: '{"state":"yanked"}' };
  expect((await fetch(`${at.origin}/api/v1/kernels/secret/norm/1.0.0/state`, yank)).status).toBe(401);
});

test("a session's secret is never one that the browser brought along", async () => {
  const { who } = await start();
  who.cookies.set("kernlock-session", "F".repeat(43));
  await signIn(who);
  expect(sessionOf(who)).toMatch(/^[\w-]{43}$/);
  expect(sessionOf(who)).not.toBe("F".repeat(43));
  expect(await isIn(who)).toBe(true);
});

test("a session ends an hour after the last page, and half a day after it began", async () => {
  let now = new Date("2026-05-01T08:00:00Z");
  const later = (minutes: number) => {
    now = new Date(now.getTime() + minutes * 60_000);
  };
  const { who } = await start({ now: () => now });
  await signIn(who);
  later(59);
  expect(await isIn(who)).toBe(true);
  later(61);
  expect(await isIn(who)).toBe(false);
  await signIn(who);
  for (let i = 0; i < 14; i++) {
    later(50);
    expect(await isIn(who), `${i}`).toBe(true);
  }
  later(50);
  expect(await isIn(who)).toBe(false);
});

test("no secret lies in the database", async () => {
  const at = await start();
  await signIn(at.who);
  const files = readdirSync(at.folder).filter((name) => name.startsWith("registry.sqlite"));
  const bytes = Buffer.concat(files.map((name) => readFileSync(join(at.folder, name))));
  expect(bytes.includes("ada")).toBe(true);
  expect(bytes.includes(sessionOf(at.who))).toBe(false);
  expect(bytes.includes(password)).toBe(false);
});

test("a form counts for its session and its address alone", async () => {
  const at = await start();
  await signIn(at.who);
  const eve = visitor(at.origin);
  await at.registry.createAccount({ name: "eve", namespace: "acme", role: "admin", password });
  await signIn(eve, { name: "eve" });
  const mine = hiddenFields(await (await at.who.get("/namespaces/acme/tokens")).text(), "/namespaces/acme/tokens");
  const hers = hiddenFields(await (await eve.get("/namespaces/acme/tokens")).text(), "/namespaces/acme/tokens");
  const revoke = hiddenFields(
    await (await at.who.get("/namespaces/acme/tokens")).text(),
    "/namespaces/acme/tokens/revoke",
  );
  const fields = { label: "x", role: "admin", lifetime: "never", package: "" };
  const make = (form: Record<string, string>, headers: Record<string, string> = {}) =>
    at.who.post("/namespaces/acme/tokens", { ...fields, ...form }, headers);
  const before = (await at.registry.listTokens("acme")).length;
  expect((await make({})).status).toBe(403);
  expect((await make({ form_token: "x" })).status).toBe(403);
  expect((await make(hers)).status).toBe(403);
  expect((await make({ form_token: revoke.form_token! })).status).toBe(403);
  expect((await make(mine, { origin: "https://evil.example" })).status).toBe(403);
  expect((await make(mine, { origin: "null" })).status).toBe(403);
  expect((await make(mine, { "sec-fetch-site": "cross-site" })).status).toBe(403);
  expect((await make(mine, { "content-type": "text/plain" })).status).toBe(400);
  expect((await at.registry.listTokens("acme")).length).toBe(before);
  const made = await make(mine, { origin: at.origin });
  expect([made.status, made.headers.get("cache-control")]).toEqual([200, "no-store"]);
  expect((await at.registry.listTokens("acme")).length).toBe(before + 1);
});

test("a token in the header sends no forms", async () => {
  const at = await start();
  const { token } = await at.registry.createToken({ namespace: "acme", role: "admin" });
  const headers = { authorization: `Bearer ${token}` };
  const page = await (await fetch(`${at.origin}/namespaces/acme/tokens`, { headers })).text();
  expect(page).toContain("Tokens");
  expect(page).not.toContain('name="form_token"');
  const body = new URLSearchParams({ label: "x", role: "admin", lifetime: "never", form_token: "" });
  const answer = await fetch(`${at.origin}/namespaces/acme/tokens`, { method: "POST", headers, body });
  expect(answer.status).toBe(403);
});

test("wrong names and passwords are refused alike, and slowly", async () => {
  const at = await start();
  const wrong = await signIn(at.who, { password: "wrong horse battery staple" });
  const nobody = await signIn(at.who, { name: "nobody" });
  expect([wrong.status, nobody.status]).toEqual([403, 403]);
  const alert = (text: string) => /role="alert">([^<]+)/.exec(text)![1];
  expect(alert(await wrong.text())).toBe(alert(await nobody.text()));
  // All at once, so that no time passes in which more would be allowed.
  const form = hiddenFields(await (await at.who.get("/signin")).text(), "/signin/account");
  const guess = { ...form, name: "ada", password: "wrong again and again" };
  const guesses = Array.from({ length: 12 }, () => at.who.post("/signin/account", guess, { origin: at.origin }));
  const statuses = (await Promise.all(guesses)).map(({ status }) => status);
  expect(statuses).toContain(429);
  expect(await isIn(at.who)).toBe(false);
});

// Five guesses may come at once, so no test here makes more.
async function newcomer(options: Parameters<typeof startRegistry>[0] = {}) {
  const at = await start(options);
  const { setupCode } = await at.registry.createAccount({ name: "bob", namespace: "acme", role: "publisher" });
  const set = (who: Visitor, fields: Record<string, string> = {}) =>
    who.send("/signin/setup", "/signin/setup", { name: "bob", code: setupCode!, password, again: password, ...fields });
  return { ...at, setupCode, set };
}

test("an account is set up once, with its code", async () => {
  const { set, setupCode, ...at } = await newcomer();
  expect(setupCode).toMatch(/^kls-[\w-]{27}$/);
  expect((await signIn(at.who, { name: "bob", password: "" })).status).toBe(403);
  expect((await set(at.who, { code: "kls-wrong" })).status).toBe(403);
  expect((await set(at.who, { name: "ada" })).status).toBe(403);
  const done = visitor(at.origin);
  expect((await set(done)).status).toBe(303);
  expect(await isIn(done)).toBe(true);
  const again = visitor(at.origin);
  expect((await set(again, { password: "another password here", again: "another password here" })).status).toBe(403);
});

test("an account is set up with a password that is one, twice the same, within a day", async () => {
  let now = new Date("2026-05-01T08:00:00Z");
  const { who, set } = await newcomer({ now: () => now });
  expect((await set(who, { password: "short", again: "short" })).status).toBe(403);
  expect((await set(who, { again: "something else entirely" })).status).toBe(403);
  now = new Date(now.getTime() + 25 * 3600_000);
  expect((await set(who)).status).toBe(403);
});

test("a new password, or the end of an account, ends its sessions", async () => {
  const at = await start();
  await signIn(at.who);
  await at.registry.resetAccount({ name: "ada", password: "another password here" });
  expect(await isIn(at.who)).toBe(false);
  expect((await signIn(at.who, { password: "another password here" })).status).toBe(303);
  expect(await at.registry.removeAccount("ada")).toBe(true);
  expect(await isIn(at.who)).toBe(false);
  expect(await at.registry.listMembers("*")).toEqual([]);
});

test("a token signs in, as far as it reaches, until it is revoked", async () => {
  const at = await start();
  const { token, id } = await at.registry.createToken({ namespace: "acme", role: "admin", label: "laptop" });
  const give = (value: string) => at.who.send("/signin", "/signin/token", { token: value });
  expect((await give("klr_nothing")).status).toBe(403);
  expect((await give("klr_anonymous")).status).toBe(403);
  expect((await give(token)).status).toBe(303);
  expect((await at.who.get("/namespaces/acme/members")).status).toBe(200);
  expect(await (await at.who.get("/namespaces")).text()).toContain("laptop");
  await at.registry.revokeToken(id);
  expect(await isIn(at.who)).toBe(false);
});

test("a database that knows no such session asks nobody in", async () => {
  const { who } = await start();
  for (const value of ["", "x", "A".repeat(43), "A".repeat(100_000).slice(0, 4000), '"; drop table session; --']) {
    who.cookies.set("kernlock-session", value);
    expect(await isIn(who)).toBe(false);
  }
});
