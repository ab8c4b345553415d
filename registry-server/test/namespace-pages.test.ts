/** A namespace's pages: who sees its members and tokens, who changes them, and that nobody reaches into another's. */
import { expect, test } from "vitest";
import { policyFor, startRegistry } from "./material.ts";
import { startIssuer, type Visitor, visitor } from "./people.ts";

async function start() {
  const issuer = await startIssuer();
  const at = await startRegistry({ signIn: issuer.signIn });
  await at.registry.createNamespace({ name: "other", policy: policyFor(at.key) });
  await at.registry.createNamespace({ name: "hidden", visibility: "private", policy: policyFor(at.key) });
  const as = async (role: "reader" | "publisher" | "auditor" | "admin", namespace = "acme") => {
    const { token, id } = await at.registry.createToken({ namespace, role, label: `${role} of ${namespace}` });
    const who = visitor(at.origin);
    expect((await who.send("/signin", "/signin/token", { token })).status).toBe(303);
    return { who, id };
  };
  return { ...at, issuer, as };
}

const tokens = "/namespaces/acme/tokens";
const members = "/namespaces/acme/members";

test("only admins of the namespace see its members and tokens", async () => {
  const at = await start();
  const nobody = await visitor(at.origin).get(tokens);
  expect([nobody.status, nobody.headers.get("location")]).toEqual([
    303,
    `/signin?return=${encodeURIComponent(tokens)}`,
  ]);
  for (const role of ["reader", "publisher", "auditor"] as const) {
    const { who } = await at.as(role);
    for (const path of [tokens, members]) expect((await who.get(path)).status, role).toBe(403);
    expect(await (await who.get("/namespaces/acme")).text()).not.toContain(tokens);
  }
  const { who: stranger } = await at.as("admin", "other");
  for (const path of [tokens, members]) expect((await stranger.get(path)).status).toBe(403);
  expect((await stranger.get("/namespaces/hidden/tokens")).status).toBe(404);
  const { who } = await at.as("admin");
  for (const path of [tokens, members]) expect((await who.get(path)).status).toBe(200);
  expect(await (await who.get("/namespaces/acme")).text()).toContain(tokens);
});

test("a token is made with its bounds, shown once, and revoked", async () => {
  const at = await start();
  const { who, id } = await at.as("admin");
  const made = await who.send(tokens, tokens, {
    label: "ci",
    role: "publisher",
    package: "acme/norm",
    lifetime: "30",
  });
  const [secret] = /klr_\w{39}/.exec(await made.text())!;
  expect(made.headers.get("cache-control")).toBe("no-store");
  const [info] = (await at.registry.listTokens("acme")).filter(({ label }) => label === "ci");
  expect(info).toMatchObject({ role: "publisher", package: "acme/norm" });
  expect(Date.parse(info!.expiresAt!) - Date.parse(info!.createdAt)).toBeGreaterThan(29 * 86_400_000);
  expect((await fetch(`${at.origin}/v2/`, { headers: { authorization: `Bearer ${secret}` } })).status).toBe(200);
  const list = await (await who.get(tokens)).text();
  expect(list).toContain("ci");
  expect(list).not.toContain(secret);

  expect((await who.send(tokens, `${tokens}/revoke`, { id: info!.id })).status).toBe(303);
  expect((await fetch(`${at.origin}/v2/`, { headers: { authorization: `Bearer ${secret}` } })).status).toBe(401);
  const actors = (await at.registry.auditAfter(0, 1000)).filter(({ subject }) => subject === info!.id);
  expect(actors.map(({ action, actor }) => [action, actor])).toEqual([
    ["token.create", `token:${id}`],
    ["token.revoke", `token:${id}`],
  ]);
});

test("members come and go, by account and by claim", async () => {
  const at = await start();
  await at.registry.createAccount({ name: "bob", namespace: "other", role: "reader", password: "twelve letters" });
  const { who } = await at.as("admin");
  const add = (fields: Record<string, string>) =>
    who.send(members, members, { role: "publisher", label: "", ...fields });
  expect((await add({ kind: "account", value: "bob" })).status).toBe(303);
  expect((await add({ kind: "group", value: "kernels", label: "The team" })).status).toBe(303);
  expect((await add({ kind: "account", value: "nobody" })).status).toBe(404);
  expect((await add({ kind: "group", value: "*" })).status).toBe(400);
  expect((await add({ kind: "constructor", value: "x" })).status).toBe(400);
  expect((await add({ kind: "group", value: "x", role: "root" })).status).toBe(400);
  const listed = await at.registry.listMembers("acme");
  expect(listed).toMatchObject([
    { issuer: "local", claims: { sub: "bob" }, role: "publisher" },
    { issuer: at.issuer.url, claims: { groups: "kernels" }, label: "The team" },
  ]);
  expect(await (await who.get(members)).text()).toContain("The team");
  for (const { id } of listed) expect((await who.send(members, `${members}/remove`, { id })).status).toBe(303);
  expect(await at.registry.listMembers("acme")).toEqual([]);
});

test("an admin's forms reach into no other namespace, whatever ids they carry", async () => {
  const at = await start();
  const { who } = await at.as("admin");
  const foreign = await at.registry.createToken({ namespace: "other", role: "reader" });
  const member = await at.registry.addMember({
    namespace: "other",
    role: "admin",
    issuer: at.issuer.url,
    claims: { sub: "x" },
  });
  const everywhere = await at.registry.createToken({ namespace: "*", role: "admin" });
  await at.registry.addMember({ namespace: "acme", role: "reader", issuer: at.issuer.url, claims: { sub: "y" } });
  for (const id of [foreign.id, everywhere.id]) await who.send(tokens, `${tokens}/revoke`, { id });
  await who.send(members, `${members}/remove`, { id: member.id });
  expect(await at.registry.listTokens("other")).toHaveLength(1);
  expect(await at.registry.listTokens("*")).toHaveLength(1);
  expect(await at.registry.listMembers("other")).toHaveLength(1);
  const outside = { label: "x", role: "admin", package: "other/norm", lifetime: "7" };
  expect((await who.send(tokens, tokens, outside)).status).toBe(400);
  const elsewhere = await who.post("/namespaces/other/tokens", outside, { origin: at.origin });
  expect(elsewhere.status).toBe(403);
});

test("a package's admin, or a reader, sends no forms", async () => {
  const at = await start();
  const { token } = await at.registry.createToken({ namespace: "acme", role: "admin", package: "acme/norm" });
  const narrow = visitor(at.origin);
  await narrow.send("/signin", "/signin/token", { token });
  expect((await narrow.get(tokens)).status).toBe(403);
  expect(await shows(narrow, "/namespaces")).toContain("acme");
});

test("namespaces that a reader may not see are not listed", async () => {
  const at = await start();
  expect(await shows(visitor(at.origin), "/namespaces")).not.toContain("hidden");
  const { who } = await at.as("reader", "hidden");
  expect(await shows(who, "/namespaces")).toContain("hidden");
  expect((await who.get("/namespaces/hidden/policy")).status).toBe(200);
  expect((await visitor(at.origin).get("/namespaces/hidden/policy")).status).toBe(404);
});

test("a namespace of artifacts has no policy to show", async () => {
  const at = await start();
  await at.registry.createNamespace({ name: "plain", kind: "artifacts" });
  for (const path of ["/namespaces/plain", "/namespaces/plain/policy"]) {
    expect((await visitor(at.origin).get(path)).status, path).toBe(200);
  }
});

test("an admin of several namespaces sees the private kernels of all of them", async () => {
  const at = await start();
  await at.registry.createAccount({ name: "bob", namespace: "hidden", role: "reader", password: "twelve letters" });
  await at.registry.addMember({ namespace: "acme", role: "admin", issuer: "local", claims: { sub: "bob" } });
  const who = visitor(at.origin);
  await who.send("/signin", "/signin/account", { name: "bob", password: "twelve letters" });
  expect((await who.get("/namespaces/hidden")).status).toBe(200);
  expect((await who.get(tokens)).status).toBe(200);
  expect((await who.get("/namespaces/hidden/tokens")).status).toBe(403);
  expect((await who.get("/")).status).toBe(200);
});

const shows = async (who: Visitor, path: string) =>
  (await (await who.get(path)).text()).replace(/[\s\S]*<main|<\/main[\s\S]*/g, "");
