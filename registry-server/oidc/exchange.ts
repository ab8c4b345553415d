/**
 * Trusted publishing: a CI job's identity token is exchanged (RFC 8693) for a publisher's token of 15 minutes. The
 * identity token itself opens nothing, is taken once, and must be for this registry and from a namespace's trusted
 * publisher, claim by claim.
 */
import { createHash } from "node:crypto";
import { newId, type TokenInfo, type TrustedPublisher } from "../admin.ts";
import type { Records } from "../store/records.ts";
import { hashToken, newToken } from "../tokens.ts";
import { matches } from "./claims.ts";
import type { Issuers } from "./issuers.ts";
import { checkSignature, checkTimes, decodeIdentity, refuseIdentity } from "./jwt.ts";

export const lifetimeSeconds = 15 * 60;

export interface Exchange {
  readonly identityToken: string;
  /** `namespace/name` that is to be published. */
  readonly package: string;
}

export function createExchanger(options: {
  records: Records;
  issuers: Issuers;
  audience: () => string;
  now: () => Date;
}): (wanted: Exchange) => Promise<{ token: string; expiresIn: number }> {
  const { records, issuers, audience } = options;
  return async (wanted) => {
    const now = options.now();
    const decoded = decodeIdentity(wanted.identityToken);
    const [namespace] = wanted.package.split("/");
    // Only issuers that somebody here trusts are ever asked for keys.
    const candidates = (await records.trustedPublishers({ issuer: decoded.issuer })).filter(
      (publisher) =>
        publisher.namespace === namespace && (publisher.package === null || publisher.package === wanted.package),
    );
    if (candidates.length === 0) refuseIdentity("issuer", `${wanted.package} trusts no identity of this issuer.`);
    checkSignature(decoded, await issuers.key(decoded.issuer, decoded.keyId));
    const expires = checkTimes(decoded.claims, audience(), now);
    const publisher = candidates.find(({ kind, claims }) => matches(kind, claims, decoded.claims));
    if (publisher === undefined) {
      return refuseIdentity("claims", `The identity's claims are those of no trusted publisher of ${wanted.package}.`);
    }
    if (!(await records.useIdentity(identityId(decoded), new Date(expires * 1000 + 60_000).toISOString()))) {
      refuseIdentity("replayed", "The identity token was exchanged before.");
    }
    return { token: await issue(publisher, wanted, decoded.claims, now), expiresIn: lifetimeSeconds };
  };

  async function issue(publisher: TrustedPublisher, wanted: Exchange, claims: Record<string, unknown>, now: Date) {
    const token = newToken();
    // The claims that decided, and the run: they stand on what is published with it.
    const kept = Object.fromEntries(
      [...Object.keys(publisher.claims), "sub", "ref", "sha", "run_id", "job_workflow_ref", "pipeline_id"].flatMap(
        (name) => (typeof claims[name] === "string" ? [[name, claims[name]] as const] : []),
      ),
    );
    const info: TokenInfo = {
      id: newId(),
      namespace: publisher.namespace,
      package: wanted.package,
      role: "publisher",
      label: publisher.label || "trusted publisher",
      identity: JSON.stringify({ issuer: publisher.issuer, claims: kept }),
      createdAt: now.toISOString(),
      expiresAt: new Date(now.getTime() + lifetimeSeconds * 1000).toISOString(),
    };
    await records.addToken(info, hashToken(token), {
      at: info.createdAt,
      actor: `identity:${publisher.id}`,
      action: "token.exchange",
      subject: info.id,
      details: { package: wanted.package, issuer: publisher.issuer, claims: kept },
    });
    return token;
  }
}

function identityId({ issuer, claims, signed }: ReturnType<typeof decodeIdentity>): string {
  const own = typeof claims.jti === "string" && claims.jti !== "" ? claims.jti : signed;
  return createHash("sha256").update(`${issuer}\n`).update(own).digest("hex");
}
