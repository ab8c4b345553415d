/** What issuers say and their keys, by OpenID Connect Discovery; kept for an hour, asked again for a key that is new. */
import type { JsonWebKey } from "node:crypto";
import { parseStrictJson } from "@kernlock/kernels/format";
import { Agent, request } from "undici";
import { isIssuer } from "./claims.ts";
import { refuseIdentity } from "./jwt.ts";

const keepMs = 3600_000;
const askAgainMs = 10_000;
const maxBytes = 1 << 20;

export interface IssuerFacts {
  readonly authorizationEndpoint: string;
  readonly tokenEndpoint: string;
  /** Whether its answers to browsers name it (RFC 9207). */
  readonly namesItself: boolean;
  /** Whether a client's secret goes into the Authorization header. */
  readonly takesBasic: boolean;
}

interface Known {
  readonly document: Record<string, unknown>;
  readonly keys: ReadonlyMap<string, JsonWebKey>;
}

export interface Issuers {
  /** KL_REGISTRY_IDENTITY_REFUSED when the issuer has no such key or does not answer. */
  key(issuer: string, keyId: string): Promise<JsonWebKey>;
  /** What it says about itself. KL_REGISTRY_IDENTITY_REFUSED when it cannot be had or has no place for people to sign in. */
  facts(issuer: string): Promise<IssuerFacts>;
  /** Posts a form and gives the answer. KL_REGISTRY_IDENTITY_REFUSED. */
  post(
    url: string,
    form: Readonly<Record<string, string>>,
    headers: Readonly<Record<string, string>>,
  ): Promise<Record<string, unknown>>;
  close(): Promise<void>;
}

export function createIssuers(now: () => Date): Issuers {
  const agent = new Agent({ headersTimeout: 5000, bodyTimeout: 5000, connect: { timeout: 5000 } });
  const known = new Map<string, { at: number; found: Promise<Known> }>();

  const ask = async (url: string, sent: { method?: "POST"; body?: string; headers?: Record<string, string> } = {}) => {
    const headers = { accept: "application/json", ...sent.headers };
    const answer = await request(url, { dispatcher: agent, ...sent, headers });
    // Redirects are not followed: keys come from where the issuer says, or not at all.
    if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`);
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of answer.body) {
      size += chunk.length;
      if (size > maxBytes) throw new Error("too large");
      chunks.push(chunk);
    }
    const document = parseStrictJson(Buffer.concat(chunks), { what: "The issuer's answer" });
    if (typeof document !== "object" || document === null || Array.isArray(document)) throw new Error("not an object");
    return document as Record<string, unknown>;
  };
  const load = async (issuer: string): Promise<Known> => {
    const document = await ask(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
    if (document.issuer !== issuer) throw new Error("it calls itself by another name");
    const { jwks_uri: address } = document;
    if (typeof address !== "string" || !isIssuer(address)) throw new Error("no address of keys");
    const { keys } = (await ask(address)) as { keys?: JsonWebKey[] };
    const named = (keys ?? []).flatMap((key) => (typeof key.kid === "string" ? [[key.kid, key] as const] : []));
    return { document, keys: new Map(named) };
  };
  const about = (issuer: string, fresherThan: number) => {
    const found = known.get(issuer);
    if (found !== undefined && found.at > fresherThan) return found;
    const entry = { at: now().getTime(), found: load(issuer) };
    known.set(issuer, entry);
    entry.found.catch(() => known.delete(issuer));
    return entry;
  };
  return {
    async key(issuer, keyId) {
      try {
        const time = now().getTime();
        const kept = await about(issuer, time - keepMs).found;
        const key = kept.keys.get(keyId) ?? (await about(issuer, time - askAgainMs).found).keys.get(keyId);
        if (key !== undefined) return key;
      } catch (error) {
        refuseIdentity("key", `The issuer's keys cannot be had (${(error as Error).message}).`);
      }
      return refuseIdentity("key", "The issuer has no such key.");
    },
    async facts(issuer) {
      let document: Record<string, unknown>;
      try {
        ({ document } = await about(issuer, now().getTime() - keepMs).found);
      } catch (error) {
        return refuseIdentity("issuer", `The issuer cannot be reached (${(error as Error).message}).`);
      }
      const { authorization_endpoint: authorization, token_endpoint: token } = document;
      if (typeof authorization !== "string" || typeof token !== "string" || ![authorization, token].every(isIssuer)) {
        return refuseIdentity("issuer", "The issuer does not say where people sign in.");
      }
      const methods = document.token_endpoint_auth_methods_supported;
      return {
        authorizationEndpoint: authorization,
        tokenEndpoint: token,
        namesItself: document.authorization_response_iss_parameter_supported === true,
        takesBasic: !Array.isArray(methods) || methods.includes("client_secret_basic"),
      };
    },
    async post(url, form, headers) {
      const type = { "content-type": "application/x-www-form-urlencoded" };
      const body = new URLSearchParams(form).toString();
      try {
        return await ask(url, { method: "POST", body, headers: { ...type, ...headers } });
      } catch (error) {
        return refuseIdentity("issuer", `The issuer did not redeem the code (${(error as Error).message}).`);
      }
    },
    close: () => agent.close(),
  };
}
