import { expect, test } from "vitest";
import { createLimiter } from "../limits.ts";
import { newToken } from "../tokens.ts";
import { bearer, refusal, startRegistry } from "./material.ts";

test("a bucket empties, refills evenly, and is one caller's and one class's", () => {
  let time = 0;
  const limiter = createLimiter({ read: 60, write: 60, login: 60 }, () => time);
  for (let i = 0; i < 30; i++) limiter.take("read", "a");
  expect(() => limiter.take("read", "a")).toThrow("60 a minute");
  limiter.take("read", "b");
  limiter.take("write", "a");
  time = 1000;
  expect(limiter.take("read", "a")).toMatchObject({ limit: 60, remaining: 0 });
  expect(() => limiter.take("read", "a")).toThrow();
  time = 3_600_000;
  expect(limiter.take("read", "a").remaining).toBe(29);
  expect(() => limiter.check("read", "a")).not.toThrow();
});

test("who asks too often is told when to come back, and nobody else is", async () => {
  const at = await startRegistry({ limits: { read: 4 } });
  const get = (token: string) => fetch(`${at.origin}/api/v1/search`, { headers: bearer(token) });
  for (let i = 0; i < 2; i++) {
    const answer = await get(at.read);
    expect([answer.status, answer.headers.get("ratelimit")]).toEqual([
      200,
      expect.stringMatching(/^limit=4, remaining=/),
    ]);
  }
  const refused = await get(at.read);
  expect(refused.status).toBe(429);
  const wait = Number(refused.headers.get("retry-after"));
  expect(wait > 0 && wait <= 15, `${wait} s`).toBe(true);
  expect(await refusal(refused)).toEqual([429, "TOOMANYREQUESTS", "KL_REGISTRY_RATE_LIMIT"]);
  expect((await get(at.write)).status).toBe(200);
  expect((await fetch(`${at.origin}/healthz`)).status).toBe(200);
});

test("guessing tokens is slow, also for a token that is right", async () => {
  const at = await startRegistry({ limits: { login: 10 } });
  const ping = (token: string) => fetch(`${at.origin}/v2/`, { headers: bearer(token) });
  for (let i = 0; i < 5; i++) expect((await ping(newToken())).status).toBe(401);
  expect((await ping(newToken())).status).toBe(429);
  expect((await ping(at.read)).status).toBe(429);
  expect((await fetch(`${at.origin}/token`)).status).toBe(429);
});

test("an address in X-Forwarded-For counts only where the proxy is trusted", async () => {
  for (const [trustedProxies, last] of [
    [undefined, 429],
    [["127.0.0.1"], 200],
  ] as const) {
    const at = await startRegistry({ limits: { read: 4 }, ...(trustedProxies ? { trustedProxies } : {}) });
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++) {
      const headers = { "x-forwarded-for": `10.0.0.${i}` };
      statuses.push((await fetch(`${at.origin}/api/v1/search`, { headers })).status);
    }
    expect(statuses.at(-1)).toBe(last);
  }
});
