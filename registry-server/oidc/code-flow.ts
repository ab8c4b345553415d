/**
 * Signing people in at an OpenID Connect issuer: authorization code with PKCE (RFC 7636), state and nonce, the issuer
 * named in its answer (RFC 9207), and an identity token that is checked as strictly as a CI job's.
 */
import { createHash } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import type { Claims } from "./claims.ts";
import type { Issuers } from "./issuers.ts";
import { checkSignature, checkTimes, decodeIdentity, refuseIdentity } from "./jwt.ts";

/** The issuer that the operator configured for people. */
export interface SignInIssuer {
  readonly issuer: string;
  readonly clientId: string;
  /** Absent for a public client. */
  readonly clientSecret?: string;
  /** Shown on the button (default: the issuer's host). */
  readonly name?: string;
  /** Default `openid profile email`. */
  readonly scope?: string;
}

export interface Pending {
  readonly state: string;
  readonly nonce: string;
  /** PKCE's secret. */
  readonly verifier: string;
  readonly redirectUri: string;
}

/** Where the browser goes. */
export async function authorizationAddress(issuers: Issuers, at: SignInIssuer, pending: Pending): Promise<string> {
  const { authorizationEndpoint } = await issuers.facts(at.issuer);
  const url = new URL(authorizationEndpoint);
  const parameters = {
    response_type: "code",
    client_id: at.clientId,
    redirect_uri: pending.redirectUri,
    scope: at.scope ?? "openid profile email",
    state: pending.state,
    nonce: pending.nonce,
    code_challenge: createHash("sha256").update(pending.verifier, "ascii").digest("base64url"),
    code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  return url.href;
}

/** Refuses an answer that names another issuer than the one that was asked, or none where one was promised (RFC 9207). */
export async function checkAnswerer(issuers: Issuers, at: SignInIssuer, named: string | undefined): Promise<void> {
  const { namesItself } = await issuers.facts(at.issuer);
  if (named === undefined ? namesItself : named !== at.issuer) {
    signInRefused("The answer came from another issuer than the one that was asked.");
  }
}

/** Redeems the code. Returns the verified claims. */
export async function redeem(
  issuers: Issuers,
  at: SignInIssuer,
  pending: Omit<Pending, "state">,
  code: string,
  now: Date,
): Promise<Claims> {
  const { tokenEndpoint, takesBasic } = await issuers.facts(at.issuer);
  const form: Record<string, string> = {
    grant_type: "authorization_code",
    code,
    redirect_uri: pending.redirectUri,
    code_verifier: pending.verifier,
  };
  const headers: Record<string, string> = {};
  if (at.clientSecret !== undefined && takesBasic) {
    // RFC 6749 2.3.1: both are form-encoded first.
    const pair = [at.clientId, at.clientSecret].map(formEncoded).join(":");
    headers.authorization = `Basic ${Buffer.from(pair).toString("base64")}`;
  } else {
    form.client_id = at.clientId;
    if (at.clientSecret !== undefined) form.client_secret = at.clientSecret;
  }
  const answer = await issuers.post(tokenEndpoint, form, headers);
  if (typeof answer.id_token !== "string") return signInRefused("The issuer gave no identity token.");
  return verifyIdToken(issuers, at, answer.id_token, pending.nonce, now);
}

async function verifyIdToken(issuers: Issuers, at: SignInIssuer, token: string, nonce: string, now: Date) {
  const decoded = decodeIdentity(token);
  if (decoded.issuer !== at.issuer) refuseIdentity("issuer", "The identity token is another issuer's.");
  checkSignature(decoded, await issuers.key(decoded.issuer, decoded.keyId));
  checkTimes(decoded.claims, at.clientId, now);
  const { nonce: given, azp, sub } = decoded.claims;
  if (given !== nonce) refuseIdentity("replayed", "The identity token was not made for this sign-in.");
  if (azp !== undefined && azp !== at.clientId) refuseIdentity("audience", "The identity token is another client's.");
  if (typeof sub !== "string" || sub === "" || sub.length > 255) {
    refuseIdentity("malformed", "The identity token names nobody.");
  }
  return decoded.claims;
}

/** KL_REGISTRY_SIGN_IN_REFUSED. */
export function signInRefused(message: string, remedy = "Begin the sign-in again."): never {
  return fail("KL_REGISTRY_SIGN_IN_REFUSED", message, { remedy });
}

const formEncoded = (text: string) => new URLSearchParams({ "": text }).toString().slice(1);
