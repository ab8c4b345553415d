/** Identity tokens: JWS compact (RFC 7515), RS256 or ES256, claims by RFC 7519. */
import { createPublicKey, type JsonWebKey, type KeyObject, verify } from "node:crypto";
import { fail, parseStrictJson } from "@kernlock/kernels/format";
import type { Claims } from "./claims.ts";

export interface Decoded {
  readonly algorithm: "RS256" | "ES256";
  readonly keyId: string;
  readonly issuer: string;
  readonly claims: Claims;
  readonly signed: Buffer;
  readonly signature: Buffer;
}

export type Reason =
  | "malformed"
  | "algorithm"
  | "issuer"
  | "audience"
  | "expired"
  | "not-yet"
  | "lifetime"
  | "key"
  | "signature"
  | "replayed"
  | "claims";

/** KL_REGISTRY_IDENTITY_REFUSED; `details.reason` says which check. */
export function refuseIdentity(reason: Reason, message: string): never {
  return fail("KL_REGISTRY_IDENTITY_REFUSED", message, {
    remedy: "Compare the token's claims with the namespace's trusted publishers.",
    details: { reason },
  });
}

const maxTokenLength = 16_384;
const maxLifetimeSeconds = 24 * 3600;
const skewSeconds = 60;

/** Takes a token apart; nothing in it is trusted yet. */
export function decodeIdentity(token: string): Decoded {
  const parts = token.split(".");
  if (token.length > maxTokenLength || parts.length !== 3 || !parts.every((part) => /^[\w-]+$/.test(part))) {
    refuseIdentity("malformed", "The identity token is not a signed JWT.");
  }
  const [header, payload, signature] = parts as [string, string, string];
  const { alg, kid, crit } = jsonOf(header);
  // Read from the token only to be compared with the two that are taken: never `none`, never a shared secret.
  if (alg !== "RS256" && alg !== "ES256")
    refuseIdentity("algorithm", "The identity token is not signed with RS256 or ES256.");
  if (crit !== undefined) refuseIdentity("malformed", "The identity token demands extensions that are not known here.");
  if (typeof kid !== "string" || kid === "") refuseIdentity("key", "The identity token does not name its key.");
  const claims = jsonOf(payload);
  if (typeof claims.iss !== "string") refuseIdentity("issuer", "The identity token names no issuer.");
  return {
    algorithm: alg as "RS256" | "ES256",
    keyId: kid as string,
    issuer: claims.iss as string,
    claims,
    signed: Buffer.from(`${header}.${payload}`, "ascii"),
    signature: Buffer.from(signature, "base64url"),
  };
}

export function checkSignature(token: Decoded, key: JsonWebKey): void {
  const fits = token.algorithm === "RS256" ? key.kty === "RSA" : key.kty === "EC" && key.crv === "P-256";
  if (!fits || (key.alg !== undefined && key.alg !== token.algorithm) || (key.use !== undefined && key.use !== "sig")) {
    refuseIdentity("algorithm", "The identity token's algorithm is not its key's.");
  }
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey({ key, format: "jwk" });
  } catch {
    refuseIdentity("key", "The issuer's key cannot be read.");
  }
  const bits = publicKey.asymmetricKeyDetails?.modulusLength;
  if (bits !== undefined && bits < 2048) refuseIdentity("key", "The issuer's key is too short.");
  if (!verify("sha256", token.signed, { key: publicKey, dsaEncoding: "ieee-p1363" }, token.signature)) {
    refuseIdentity("signature", "The identity token's signature does not verify.");
  }
}

/** Audience and times. Returns when it expires, in seconds. */
export function checkTimes(claims: Claims, audience: string, now: Date): number {
  const seconds = now.getTime() / 1000;
  const { aud, exp, nbf, iat } = claims;
  const audiences = Array.isArray(aud) ? aud : [aud];
  if (audiences.length !== 1 || audiences[0] !== audience) {
    refuseIdentity("audience", `The identity token is not for ${audience} alone.`);
  }
  if (!isTime(exp) || exp <= seconds) return refuseIdentity("expired", "The identity token has expired.");
  if (!isTime(iat)) return refuseIdentity("malformed", "The identity token does not say when it was issued.");
  if (iat > seconds + skewSeconds || (nbf !== undefined && (!isTime(nbf) || nbf > seconds + skewSeconds))) {
    refuseIdentity("not-yet", "The identity token is not valid yet.");
  }
  if (exp - iat > maxLifetimeSeconds) refuseIdentity("lifetime", "The identity token lives longer than a day.");
  return exp;
}

function isTime(value: unknown): value is number {
  return typeof value === "number" && Number.isFinite(value) && value > 0;
}

function jsonOf(part: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseStrictJson(Buffer.from(part, "base64url"), { what: "The identity token" });
  } catch {
    refuseIdentity("malformed", "The identity token is not a signed JWT.");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    refuseIdentity("malformed", "The identity token is not a signed JWT.");
  }
  return value as Record<string, unknown>;
}
