/** Issuers' keys, by OpenID Connect Discovery; kept for an hour, asked again when a token names a key that is new. */
import type { JsonWebKey } from "node:crypto";
import { parseStrictJson } from "@kernlock/kernels/format";
import { Agent, request } from "undici";
import { isIssuer } from "./claims.ts";
import { refuseIdentity } from "./jwt.ts";

const keepMs = 3600_000;
const askAgainMs = 10_000;
const maxBytes = 1 << 20;

export interface Issuers {
  /** KL_REGISTRY_IDENTITY_REFUSED when the issuer has no such key or does not answer. */
  key(issuer: string, keyId: string): Promise<JsonWebKey>;
  close(): Promise<void>;
}

export function createIssuers(now: () => Date): Issuers {
  const agent = new Agent({ headersTimeout: 5000, bodyTimeout: 5000, connect: { timeout: 5000 } });
  const known = new Map<string, { at: number; keys: Promise<ReadonlyMap<string, JsonWebKey>> }>();

  const get = async (url: string): Promise<Record<string, unknown>> => {
    const answer = await request(url, { dispatcher: agent, headers: { accept: "application/json" } });
    // Redirects are not followed: keys come from where the issuer says, or not at all.
    if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of answer.body) {
      size += chunk.length;
      if (size > maxBytes) throw new Error("too large");
      chunks.push(chunk);
    }
    return parseStrictJson(Buffer.concat(chunks), { what: "The issuer's answer" }) as Record<string, unknown>;
  };
  const load = async (issuer: string) => {
    const facts = await get(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
    if (facts.issuer !== issuer) throw new Error("it calls itself by another name");
    const { jwks_uri: address } = facts;
    if (typeof address !== "string" || !isIssuer(address)) throw new Error("no address of keys");
    const { keys } = (await get(address)) as { keys?: JsonWebKey[] };
    return new Map((keys ?? []).flatMap((key) => (typeof key.kid === "string" ? [[key.kid, key] as const] : [])));
  };
  const keysOf = (issuer: string, fresherThan: number) => {
    const found = known.get(issuer);
    if (found !== undefined && found.at > fresherThan) return found;
    const entry = { at: now().getTime(), keys: load(issuer) };
    known.set(issuer, entry);
    entry.keys.catch(() => known.delete(issuer));
    return entry;
  };
  return {
    async key(issuer, keyId) {
      try {
        const time = now().getTime();
        const kept = keysOf(issuer, time - keepMs);
        const key = (await kept.keys).get(keyId) ?? (await keysOf(issuer, time - askAgainMs).keys).get(keyId);
        if (key !== undefined) return key;
      } catch (error) {
        refuseIdentity("key", `The issuer's keys cannot be had (${(error as Error).message}).`);
      }
      return refuseIdentity("key", "The issuer has no such key.");
    },
    close: () => agent.close(),
  };
}
