import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createRegistry, openAdmin } from "../index.ts";
import { isWellFormedToken, newToken } from "../tokens.ts";
import { bearer, newKey, policyFor, refusal, startRegistry, temporaryFolder } from "./material.ts";

const ping = (origin: string, authorization: string) => fetch(`${origin}/v2/`, { headers: { authorization } });

test("a token is 192 random bits with a checksum", () => {
  const tokens = Array.from({ length: 200 }, newToken);
  expect(new Set(tokens).size).toBe(200);
  for (const token of tokens) {
    expect(token).toMatch(/^klr_[0-9A-Za-z]{39}$/);
    expect(isWellFormedToken(token)).toBe(true);
    const at = 4 + Math.floor(Math.random() * 39);
    const typo = token.slice(0, at) + (token[at] === "a" ? "b" : "a") + token.slice(at + 1);
    expect(isWellFormedToken(typo)).toBe(false);
  }
});

test.each([
  ["cut", (t: string) => t.slice(0, -1), "KL_REGISTRY_TOKEN_MALFORMED"],
  ["in other case", (t: string) => t.toUpperCase(), "KL_REGISTRY_TOKEN_MALFORMED"],
  ["unknown", () => newToken(), "KL_REGISTRY_TOKEN_UNKNOWN"],
  ["of another make", () => "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "KL_REGISTRY_TOKEN_MALFORMED"],
  ["followed by more", (t: string) => `${t}x`, "KL_REGISTRY_TOKEN_MALFORMED"],
])("a token that is %s is refused, also where none is needed", async (_what, change, code) => {
  const at = await startRegistry();
  const token = change(at.write);
  expect(await refusal(ping(at.origin, `Bearer ${token}`))).toEqual([401, "UNAUTHORIZED", code]);
  const search = fetch(`${at.origin}/api/v1/search`, { headers: bearer(token) });
  expect((await refusal(search))[2]).toBe(code);
});

test("an Authorization of another scheme is refused", async () => {
  const at = await startRegistry();
  expect((await refusal(ping(at.origin, "Digest x")))[2]).toBe("KL_REGISTRY_TOKEN_MALFORMED");
});

test("a revoked or expired token is dead with the next request", async () => {
  let now = new Date("2026-01-01T00:00:00Z");
  const at = await startRegistry({ now: () => now });
  const short = await at.registry.createToken({ namespace: "acme", role: "reader", expiresAt: new Date("2026-01-02") });
  expect((await ping(at.origin, `Bearer ${short.token}`)).status).toBe(200);
  now = new Date("2026-01-02T00:00:00Z");
  expect((await refusal(ping(at.origin, `Bearer ${short.token}`)))[2]).toBe("KL_REGISTRY_TOKEN_UNKNOWN");

  const { id, token } = await at.registry.createToken({ namespace: "acme", role: "reader" });
  expect((await ping(at.origin, `Bearer ${token}`)).status).toBe(200);
  expect(await at.registry.revokeToken(id)).toBe(true);
  expect((await ping(at.origin, `Bearer ${token}`)).status).toBe(401);
  expect(await at.registry.revokeToken(id)).toBe(false);
});

test("the challenge and the token route are what stock clients expect", async () => {
  const at = await startRegistry();
  const challenge = await fetch(`${at.origin}/v2/`);
  expect(challenge.status).toBe(401);
  expect(challenge.headers.get("www-authenticate")).toBe(`Bearer realm="${at.origin}/token",service="kernlock"`);
  const scoped = await fetch(`${at.origin}/v2/acme/norm/blobs/uploads/`, { method: "POST" });
  expect(scoped.headers.get("www-authenticate")).toBe(
    `Bearer realm="${at.origin}/token",service="kernlock",scope="repository:acme/norm:pull,push"`,
  );

  const basic = (password: string) => `Basic ${Buffer.from(`anybody:${password}`).toString("base64")}`;
  const url = `${at.origin}/token?account=anybody&service=kernlock&scope=repository:acme/norm:push,pull`;
  const byBasic = await fetch(url, { headers: { authorization: basic(at.write) } });
  const granted = (await byBasic.json()) as { token: string; access_token: string; expires_in: number };
  expect(granted.access_token).toBe(granted.token);
  expect((await ping(at.origin, `Bearer ${granted.token}`)).status).toBe(200);
  expect(byBasic.headers.get("cache-control")).toBe("no-store");

  const refresh = (token: string) =>
    fetch(`${at.origin}/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: token, service: "kernlock" }),
    });
  expect(((await (await refresh(at.read)).json()) as { access_token: string }).access_token).toBe(at.read);
  expect((await refusal(refresh(newToken())))[0]).toBe(401);
  expect((await fetch(url, { headers: { authorization: basic(newToken()) } })).status).toBe(401);

  // Without credentials there is a token that grants what is public.
  const { token } = (await (await fetch(url)).json()) as { token: string };
  expect((await fetch(`${at.origin}/v2/acme/norm/tags/list`, { headers: bearer(token) })).status).toBe(404);
  expect((await ping(at.origin, basic(at.read))).status).toBe(200);
});

test("the data folder never holds a token, only hashes; it is closed to others", async () => {
  const at = await startRegistry();
  await ping(at.origin, `Bearer ${at.write}`);
  expect(statSync(at.folder).mode & 0o777).toBe(0o700);
  for (const name of readdirSync(at.folder).filter((file) => file.startsWith("registry.sqlite"))) {
    const content = readFileSync(join(at.folder, name));
    expect(content.includes(at.write), name).toBe(false);
    expect(content.includes(at.write.slice(4, 30)), name).toBe(false);
  }
});

test("an administrator can make namespaces and tokens while the server runs", async () => {
  const dataFolder = temporaryFolder();
  const registry = await createRegistry({ dataFolder });
  const { origin } = await registry.listen();
  const admin = await openAdmin({ dataFolder });
  try {
    await admin.createNamespace({ name: "team", policy: policyFor(newKey()) });
    const { token } = await admin.createToken({ namespace: "team", role: "reader", label: "ci" });
    expect((await ping(origin, `Bearer ${token}`)).status).toBe(200);
    expect(await registry.listTokens("team")).toMatchObject([{ label: "ci", role: "reader" }]);
  } finally {
    await admin.close();
    await registry.close();
  }
});

test("a namespace needs a good name, a readable policy, and may exist once", async () => {
  const admin = await openAdmin({ dataFolder: temporaryFolder() });
  const policy = policyFor(newKey());
  const codeOf = async (name: string, text = policy) => {
    try {
      await admin.createNamespace({ name, policy: text });
      return "none";
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  expect(await codeOf("acme")).toBe("none");
  expect(await codeOf("acme")).toBe("KL_REGISTRY_NAMESPACE_EXISTS");
  for (const name of ["", "A", "a/b", "..", "a..b", "-a", "a".repeat(65)]) {
    expect(await codeOf(name)).toBe("KL_REGISTRY_NAME_INVALID");
  }
  expect(await codeOf("other", "version: 7")).toMatch(/^KL_POLICY_/);
  await expect(admin.createToken({ namespace: "nowhere", role: "reader" })).rejects.toThrow("no namespace");
  await admin.close();
});
