/**
 * Two cookies, both random, neither readable by scripts: the session's, and one that ties a sign-in to the browser that
 * began it. Over https their names begin with `__Host-`, so that no neighbouring host can plant them; a plain name is
 * used by a registry on the loopback address alone, which has no TLS.
 */
import { createHash, randomBytes } from "node:crypto";
import type { FastifyRequest } from "fastify";

export type CookieKind = "session" | "browser";

const lifetimeSeconds: Readonly<Record<CookieKind, number>> = { session: 12 * 3600, browser: 3600 };
const secretPattern = /^[\w-]{43}$/;

/** Whether anybody can sign in: passwords and sessions do not travel in the clear. */
export function mayHoldCookies(origin: string): boolean {
  const { protocol, hostname } = new URL(origin);
  return protocol === "https:" || /^(127\.0\.0\.1|localhost|\[::1\])$/.test(hostname);
}

export function newSecret(): string {
  return randomBytes(32).toString("base64url");
}

export function hashSecret(secret: string): Buffer {
  return createHash("sha256").update(secret, "utf8").digest();
}

/** The first cookie of that name, where it has the form of ours. */
export function cookieOf(request: FastifyRequest, origin: string, kind: CookieKind): string | undefined {
  const name = cookieName(origin, kind);
  for (const part of (request.headers.cookie ?? "").split(";", 64)) {
    const at = part.indexOf("=");
    if (at < 0 || part.slice(0, at).trim() !== name) continue;
    const value = part.slice(at + 1).trim();
    return secretPattern.test(value) ? value : undefined;
  }
  return undefined;
}

/** A `Set-Cookie` value. `secret` null takes it back. Lax, so that links from elsewhere open for who is signed in. */
export function setCookie(origin: string, kind: CookieKind, secret: string | null): string {
  const age = secret === null ? 0 : lifetimeSeconds[kind];
  const secure = origin.startsWith("https:") ? "; Secure" : "";
  return `${cookieName(origin, kind)}=${secret ?? ""}; Path=/; Max-Age=${age}; HttpOnly; SameSite=Lax${secure}`;
}

function cookieName(origin: string, kind: CookieKind): string {
  const plain = `kernlock-${kind}`;
  return origin.startsWith("https:") ? `__Host-${plain}` : plain;
}
