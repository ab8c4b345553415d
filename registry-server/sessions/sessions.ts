/** Sessions: a random secret in the browser, its hash here. What a person may do is asked anew at every request. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { anonymous, type Grant, type Person } from "../access.ts";
import type { Context } from "../context.ts";
import type { Claims } from "../oidc/claims.ts";
import type { SessionRow } from "../store/records.ts";
import { cookieOf, hashSecret, mayHoldCookies, newSecret, setCookie } from "./cookies.ts";
import { isMember } from "./people.ts";

export const absoluteMs = 12 * 3600_000;
export const idleMs = 3600_000;
const touchEveryMs = 60_000;

export interface Identity {
  readonly issuer: string;
  readonly subject: string;
  readonly name: string;
  readonly claims: Claims;
}

/** Before a page's route: who is signed in. A token in the Authorization header goes before a session. */
export async function recognise(request: FastifyRequest, context: Context, issuer: string | undefined): Promise<void> {
  const origin = context.origin();
  if (request.principal.kind !== "anonymous" || !mayHoldCookies(origin)) return;
  const secret = cookieOf(request, origin, "session");
  const person = secret === undefined ? undefined : await personOf(context, secret, issuer);
  request.principal = person ?? anonymous;
  request.formSecret = person === undefined ? (cookieOf(request, origin, "browser") ?? null) : secret!;
}

async function personOf(context: Context, secret: string, issuer: string | undefined): Promise<Person | undefined> {
  const { records } = context;
  const now = context.now();
  const hash = hashSecret(secret);
  const row = await records.session(hash);
  if (row === undefined || Date.parse(row.expiresAt) <= now.getTime()) return undefined;
  const idle = now.getTime() - Date.parse(row.seenAt);
  if (idle >= idleMs) return undefined;
  const grants = await grantsNow(context, row, issuer, now);
  if (grants === undefined) return undefined;
  // A disk that is full stops nobody from reading.
  if (idle >= touchEveryMs) await records.touchSession(hash, now.toISOString()).catch(() => {});
  return { kind: "person", name: row.name, issuer: row.issuer, subject: row.subject, grants };
}

/** Undefined when the identity itself is gone: the token revoked, the account removed, another issuer configured. */
async function grantsNow(
  { records }: Context,
  row: SessionRow,
  issuer: string | undefined,
  now: Date,
): Promise<readonly Grant[] | undefined> {
  switch (row.issuer) {
    case "token": {
      const token = await records.tokenById(row.subject);
      const dead = token === undefined || (token.expiresAt !== null && Date.parse(token.expiresAt) <= now.getTime());
      return dead ? undefined : [{ namespace: token.namespace, package: token.package, role: token.role }];
    }
    case "local":
      if (((await records.account(row.subject))?.password ?? null) === null) return undefined;
      break;
    default:
      if (row.issuer !== issuer) return undefined;
  }
  return rolesOf(await records.members({ issuer: row.issuer }), JSON.parse(row.claims) as Claims);
}

export function rolesOf(members: Awaited<ReturnType<Context["records"]["members"]>>, claims: Claims): Grant[] {
  return members
    .filter((rule) => isMember(rule, claims))
    .map(({ namespace, role }) => ({ namespace, package: null, role }));
}

/** A new secret for every sign-in, in place of whatever the browser had. */
export async function beginSession(
  request: FastifyRequest,
  reply: FastifyReply,
  context: Context,
  identity: Identity,
): Promise<void> {
  const origin = context.origin();
  const at = context.now();
  const secret = newSecret();
  const before = cookieOf(request, origin, "session");
  const row: SessionRow = {
    issuer: identity.issuer,
    subject: identity.subject,
    name: identity.name,
    claims: JSON.stringify(identity.claims),
    createdAt: at.toISOString(),
    seenAt: at.toISOString(),
    expiresAt: new Date(at.getTime() + absoluteMs).toISOString(),
  };
  await context.records.addSession(hashSecret(secret), row, before === undefined ? undefined : hashSecret(before), {
    at: row.createdAt,
    actor: "registry",
    action: "session.begin",
    subject: `${identity.issuer} ${identity.subject}`,
    details: {},
  });
  reply.header("set-cookie", [setCookie(origin, "session", secret), setCookie(origin, "browser", null)]);
}

export async function endSession(request: FastifyRequest, reply: FastifyReply, context: Context): Promise<void> {
  const origin = context.origin();
  const { principal } = request;
  const secret = cookieOf(request, origin, "session");
  if (secret !== undefined && principal.kind === "person") {
    await context.records.removeSession(hashSecret(secret), {
      at: context.now().toISOString(),
      actor: "registry",
      action: "session.end",
      subject: `${principal.issuer} ${principal.subject}`,
      details: {},
    });
  }
  reply.header("set-cookie", setCookie(origin, "session", null));
}

/** Those that nobody can use any more. */
export function forgetSessions(records: Context["records"], now: Date): Promise<number> {
  return records.forgetSessions(now.toISOString(), new Date(now.getTime() - idleMs).toISOString());
}
