/** People sign in at an OpenID Connect issuer: the whole walk, and every answer that must be refused. */
import { createHmac, generateKeyPairSync } from "node:crypto";
import { expect, test } from "vitest";
import type { RegistryOptions } from "../server.ts";
import { startRegistry } from "./material.ts";
import { type LittleIssuer, signInAt, startIssuer, type Visitor, visitor } from "./people.ts";

async function start(options: Parameters<typeof startIssuer>[0] = {}, more: Partial<RegistryOptions> = {}) {
  const issuer = await startIssuer(options);
  const at = await startRegistry({ signIn: issuer.signIn, ...more });
  await at.registry.addMember({
    namespace: "acme",
    role: "admin",
    issuer: issuer.url,
    claims: { groups: "kernels" },
    label: "Kernel team",
  });
  return { ...at, issuer, who: visitor(at.origin) };
}

const isIn = async (who: Visitor) => (await (await who.get("/namespaces")).text()).includes("Sign out");

test("whoever has the claim of a member is in, by name, where they wanted to go", async () => {
  const at = await start();
  const page = await (await at.who.get("/signin?return=%2Fnamespaces%2Facme%2Ftokens")).text();
  expect(page).toContain("Sign in with Example");
  const done = await signInAt(at.who, "/signin/oidc?return=%2Fnamespaces%2Facme%2Ftokens");
  expect([done.status, done.headers.get("location")]).toEqual([303, "/namespaces/acme/tokens"]);
  const tokens = await at.who.get("/namespaces/acme/tokens");
  expect(tokens.status).toBe(200);
  expect(await tokens.text()).toContain("Ada");
  const [begun] = (await at.registry.auditAfter(0, 100)).filter(({ action }) => action === "session.begin");
  expect(begun!.subject).toBe(`${at.issuer.url} ada-1`);
});

test("the code is redeemed with PKCE and the exact redirect address; a secret goes into the header", async () => {
  const open = await start();
  await signInAt(open.who);
  const [first] = open.issuer.redeemed;
  expect(first!.authorization).toBeUndefined();
  expect(first!.form).toMatchObject({ client_id: "kernlock", redirect_uri: `${open.origin}/signin/callback` });
  expect(first!.form.code_verifier).toMatch(/^[\w-]{43}$/);

  const closed = await start({ secret: "s:e/cret" });
  await signInAt(closed.who);
  const [second] = closed.issuer.redeemed;
  expect(Buffer.from(second!.authorization!.slice(6), "base64").toString()).toBe("kernlock:s%3Ae%2Fcret");
  expect(second!.form.client_secret).toBeUndefined();

  const posted = await start({ secret: "x" });
  posted.issuer.change.facts = { token_endpoint_auth_methods_supported: ["client_secret_post"] };
  expect((await signInAt(posted.who)).status).toBe(303);
  expect(posted.issuer.redeemed[0]!.form.client_secret).toBe("x");
});

type Refused = [what: string, change: (issuer: LittleIssuer) => void];
const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
const claimed = (change: Record<string, unknown>) => (issuer: LittleIssuer) => {
  issuer.change.idToken = (claims) => issuer.jwt({ ...claims, ...change });
};

test.each<Refused>([
  ["another state", (at) => (at.change.answer = { state: "A".repeat(43) })],
  ["no state", (at) => (at.change.answer = { state: undefined })],
  ["another issuer's name (mix-up)", (at) => (at.change.answer = { iss: "https://evil.example" })],
  ["no issuer's name where one was promised", (at) => (at.change.answer = { iss: undefined })],
  ["an error", (at) => (at.change.answer = { error: "access_denied", code: undefined })],
  ["no code", (at) => (at.change.answer = { code: undefined })],
  ["another code", (at) => (at.change.answer = { code: "stolen" })],
  ["no identity token", (at) => (at.change.token = { id_token: undefined })],
  ["another nonce", claimed({ nonce: "other" })],
  ["no nonce", claimed({ nonce: undefined })],
  ["another audience", claimed({ aud: "other" })],
  ["several audiences", claimed({ aud: ["kernlock", "other"] })],
  ["another client's token", claimed({ azp: "other" })],
  ["another issuer's token", claimed({ iss: "https://evil.example" })],
  ["an expired token", claimed({ exp: 1_700_000_000 })],
  ["a token from the future", claimed({ iat: 4_000_000_000, exp: 4_000_000_300 })],
  ["nobody", claimed({ sub: "" })],
  ["a key that is not the issuer's", (at) => (at.change.idToken = (claims) => at.jwt(claims, { key: other }))],
  ["algorithm none", (at) => (at.change.idToken = (claims) => at.jwt(claims, { header: { alg: "none", kid: "one" } }))],
  [
    "a shared secret in place of a key",
    (at) => {
      at.change.idToken = (claims) => {
        const [, payload] = at.jwt(claims).split(".");
        const header = Buffer.from(JSON.stringify({ alg: "HS256", kid: "one" })).toString("base64url");
        const mac = createHmac("sha256", "one").update(`${header}.${payload}`).digest("base64url");
        return `${header}.${payload}.${mac}`;
      };
    },
  ],
  ["a token that is none", (at) => (at.change.token = { id_token: "x.y" })],
])("%s is refused, and nobody is in", async (_what, change) => {
  const at = await start();
  change(at.issuer);
  const answer = await signInAt(at.who);
  expect(answer.status).toBeGreaterThanOrEqual(400);
  expect(answer.status).toBeLessThan(500);
  expect(answer.headers.get("content-type")).toMatch(/^text\/html/);
  expect(await answer.text()).toMatch(/KL_REGISTRY_(SIGN_IN|IDENTITY)_REFUSED/);
  expect(await isIn(at.who)).toBe(false);
});

test("an answer counts in the browser that asked, once, and within ten minutes", async () => {
  let now = new Date();
  const at = await start({ now: () => now }, { now: () => now });
  const there = await at.who.get("/signin/oidc");
  const back = (await fetch(there.headers.get("location")!, { redirect: "manual" })).headers.get("location")!;
  const stranger = visitor(at.origin);
  await stranger.get("/signin");
  expect((await stranger.get(back)).status).toBe(403);
  expect((await at.who.get(back)).status).toBe(303);
  expect((await at.who.get(back)).status).toBe(403);

  const slow = visitor(at.origin);
  const late = await slow.get("/signin/oidc");
  const answer = (await fetch(late.headers.get("location")!, { redirect: "manual" })).headers.get("location")!;
  now = new Date(now.getTime() + 11 * 60_000);
  expect((await slow.get(answer)).status).toBe(403);
});

test("parameters that stand there twice are none", async () => {
  const at = await start();
  const there = await at.who.get("/signin/oidc");
  const back = (await fetch(there.headers.get("location")!, { redirect: "manual" })).headers.get("location")!;
  const state = new URL(back).searchParams.get("state");
  expect((await at.who.get(`${back}&state=${state}`)).status).toBe(403);
});

test("an identity without a role is told what to ask for, and has no session", async () => {
  const at = await start();
  at.issuer.claims = { sub: "eve-9", name: "<b>Eve</b>", groups: ["kernels2"] };
  const answer = await signInAt(at.who);
  expect(answer.status).toBe(403);
  const text = await answer.text();
  expect(text).toContain("&lt;b&gt;Eve&lt;/b&gt; has no role");
  expect(text).toContain("sub=eve-9");
  expect(await isIn(at.who)).toBe(false);
});

test("an address that the issuer did not verify is nobody's", async () => {
  const at = await start();
  const claims = { email: "bob@example.org" };
  await at.registry.addMember({ namespace: "acme", role: "reader", issuer: at.issuer.url, claims });
  for (const verified of [false, undefined, "true"]) {
    at.issuer.claims = { sub: "bob", email: "bob@example.org", email_verified: verified };
    expect((await signInAt(at.who)).status, String(verified)).toBe(403);
  }
  at.issuer.claims = { sub: "bob", email: "bob@example.org", email_verified: true };
  expect((await signInAt(at.who)).status).toBe(303);
});

test("rules are exact, never patterns, and name nothing that people can change about themselves", async () => {
  const at = await start();
  const add = (claims: Record<string, string>, issuer = at.issuer.url) =>
    at.registry.addMember({ namespace: "acme", role: "admin", issuer, claims });
  for (const claims of [{}, { sub: "*" }, { sub: "" }, { name: "Ada" }, { preferred_username: "ada" }]) {
    await expect(add(claims), JSON.stringify(claims)).rejects.toMatchObject({ code: "KL_REGISTRY_IDENTITY_CONFIG" });
  }
  await expect(add({ sub: "x" }, "http://issuer.example")).rejects.toMatchObject({
    code: "KL_REGISTRY_IDENTITY_CONFIG",
  });
});

test("a role that was taken away is gone with the next request, and so is another issuer's session", async () => {
  const at = await start();
  await signInAt(at.who);
  expect((await at.who.get("/namespaces/acme/members")).status).toBe(200);
  const [member] = await at.registry.listMembers("acme");
  await at.registry.removeMember(member!.id);
  expect((await at.who.get("/namespaces/acme/members")).status).toBe(403);
});

test("every sign-in has a new secret, and the one before is dead", async () => {
  const at = await start();
  await signInAt(at.who);
  const first = at.who.cookies.get("kernlock-session")!;
  await signInAt(at.who);
  expect(at.who.cookies.get("kernlock-session")).not.toBe(first);
  expect(await isIn(at.who)).toBe(true);
  at.who.cookies.set("kernlock-session", first);
  expect(await isIn(at.who)).toBe(false);
});

test("an issuer that does not answer refuses with a page", async () => {
  const at = await start();
  at.issuer.change.facts = { authorization_endpoint: "javascript:alert(1)" };
  const answer = await at.who.get("/signin/oidc");
  expect(answer.status).toBe(401);
  expect(await answer.text()).toContain("KL_REGISTRY_IDENTITY_REFUSED");
});

test.each([
  ["//evil.example/x", "/"],
  ["https://evil.example/", "/"],
  ["/\\evil.example", "/"],
  ["/\t/evil.example", "/"],
  ["/.//evil.example", "/"],
  ["javascript:alert(1)", "/"],
  ["/signout", "/"],
  ["/kernels/acme/norm?cpu=x", "/kernels/acme/norm?cpu=x"],
])("signing in to %j goes on to %s", async (wanted, expected) => {
  const at = await start();
  const done = await signInAt(at.who, `/signin/oidc?return=${encodeURIComponent(wanted)}`);
  expect(done.headers.get("location")).toBe(expected);
});
