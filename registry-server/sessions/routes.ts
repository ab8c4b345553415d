/** Signing in and out. */
import { KernlockError } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { principalOf } from "../access.ts";
import type { Context } from "../context.ts";
import { createLimiter, defaultLimits } from "../limits.ts";
import {
  authorizationAddress,
  checkAnswerer,
  type Pending,
  redeem,
  type SignInIssuer,
  signInRefused,
} from "../oidc/code-flow.ts";
import type { Issuers } from "../oidc/issuers.ts";
import type { Html } from "../pages/html.ts";
import { sendPage } from "../pages/send.ts";
import { noSignInPage, setupPage, signInPage } from "../pages/signin.ts";
import { cookieOf, hashSecret, mayHoldCookies, newSecret, setCookie } from "./cookies.ts";
import { formField, readForm } from "./forms.ts";
import { checkPassword, hashPassword, verifyPassword } from "./passwords.ts";
import { beginSession, endSession, type Identity, rolesOf } from "./sessions.ts";

const pendingMs = 10 * 60_000;
/** Guesses of one address, and of one account from wherever, a minute. */
const guesses = { address: 10, account: 60 };
const nothing = "The name or the password is wrong.";

type Query = FastifyRequest<{ Querystring: Record<string, string | string[] | undefined> }>;

export function sessionRoutes(
  app: FastifyInstance,
  context: Context,
  issuers: Issuers,
  signIn: SignInIssuer | undefined,
): void {
  const { records } = context;
  const byAddress = createLimiter({ ...defaultLimits, login: guesses.address });
  const byAccount = createLimiter({ ...defaultLimits, login: guesses.account });
  const callback = () => `${context.origin()}/signin/callback`;

  app.get("/signin", async (request: Query, reply) => {
    const returnTo = localPath(context, first(request.query.return));
    if (request.principal.kind !== "anonymous") return reply.redirect(returnTo, 303);
    return show(request, reply, 200, returnTo);
  });

  app.post("/signin/account", async (request, reply) => {
    const form = await readForm(request, context, "/signin/account");
    const name = form.get("name") ?? "";
    byAddress.take("login", request.ip);
    byAccount.take("login", name.slice(0, 64));
    const account = await records.account(name);
    const right = await verifyPassword(form.get("password") ?? "", account?.password ?? null);
    const returnTo = localPath(context, form.get("return"));
    if (account === undefined || !right) return show(request, reply, 403, returnTo, nothing);
    await beginSession(request, reply, context, accountIdentity(name));
    return reply.redirect(returnTo, 303);
  });

  app.post("/signin/token", async (request, reply) => {
    const form = await readForm(request, context, "/signin/token");
    byAddress.take("login", request.ip);
    const returnTo = localPath(context, form.get("return"));
    try {
      const principal = await principalOf(form.get("token")?.trim(), records, context.now());
      if (principal.kind === "token") {
        const label = (await records.tokenById(principal.id))?.label;
        const identity = { issuer: "token", subject: principal.id, name: label || `token ${principal.id}`, claims: {} };
        await beginSession(request, reply, context, identity);
        return reply.redirect(returnTo, 303);
      }
    } catch (error) {
      if (!(error instanceof KernlockError && error.code.startsWith("KL_REGISTRY_TOKEN_"))) throw error;
      return show(request, reply, 403, returnTo, error.message);
    }
    return show(request, reply, 403, returnTo, "No token was given.");
  });

  app.get("/signin/setup", async (request, reply) => {
    if (!mayHoldCookies(context.origin())) return show(request, reply, 200, "/");
    withBrowser(request, reply);
    return sendGate(request, reply, 200, setupPage(formField(request, "/signin/setup")));
  });

  app.post("/signin/setup", async (request, reply) => {
    const form = await readForm(request, context, "/signin/setup");
    const [name, code, password] = ["name", "code", "password"].map((field) => (form.get(field) ?? "").trim());
    const again = (wrong: string) =>
      sendGate(request, reply, 403, setupPage(formField(request, "/signin/setup"), wrong));
    if (password !== form.get("again")?.trim()) return again("The two passwords differ.");
    try {
      checkPassword(password!);
    } catch (error) {
      return again((error as Error).message);
    }
    byAddress.take("login", request.ip);
    const now = context.now().toISOString();
    const entry = { at: now, actor: `local:${name}`, action: "account.setup", subject: name!, details: {} };
    const once = { setupHash: hashSecret(code!), now };
    if (!(await records.setPassword(name!, await hashPassword(password!), once, entry))) {
      return again("There is no such account, or the code is another, was used, or is older than a day.");
    }
    await beginSession(request, reply, context, accountIdentity(name!));
    return reply.redirect("/", 303);
  });

  app.get("/signin/oidc", async (request: Query, reply) => {
    if (signIn === undefined || !mayHoldCookies(context.origin())) return show(request, reply, 404, "/");
    byAddress.take("login", request.ip);
    const pending: Pending = {
      state: newSecret(),
      nonce: newSecret(),
      verifier: newSecret(),
      redirectUri: callback(),
    };
    const address = await authorizationAddress(issuers, signIn, pending);
    await records.addSignIn(hashSecret(pending.state), hashSecret(withBrowser(request, reply)), {
      nonce: pending.nonce,
      verifier: pending.verifier,
      returnTo: localPath(context, first(request.query.return)),
      expiresAt: new Date(context.now().getTime() + pendingMs).toISOString(),
    });
    return reply.header("cache-control", "no-store").redirect(address, 303);
  });

  app.get("/signin/callback", async (request: Query, reply) => {
    if (signIn === undefined) return show(request, reply, 404, "/");
    reply.header("cache-control", "no-store");
    const { state, code, error, iss } = request.query;
    const browser = cookieOf(request, context.origin(), "browser");
    // A parameter that stands there twice is an array, and no text.
    const begun =
      typeof state === "string" && browser !== undefined
        ? await records.takeSignIn(hashSecret(state), hashSecret(browser))
        : undefined;
    if (begun === undefined || Date.parse(begun.expiresAt) <= context.now().getTime()) {
      return signInRefused("This sign-in was not begun in this browser, was used, or took longer than ten minutes.");
    }
    await checkAnswerer(issuers, signIn, first(iss));
    if (typeof error === "string") return signInRefused(`The issuer says: ${error.slice(0, 100)}.`);
    if (typeof code !== "string") return signInRefused("The issuer gave no code.");
    const asked = { nonce: begun.nonce, verifier: begun.verifier, redirectUri: callback() };
    const claims = await redeem(issuers, signIn, asked, code, context.now());
    const members = await records.members({ issuer: signIn.issuer });
    if (rolesOf(members, claims).length === 0) {
      return signInRefused(
        `${nameIn(claims)} has no role in this registry.`,
        `Ask an admin for one, for the identity sub=${claims.sub} of ${signIn.issuer}.`,
      );
    }
    // Only what rules ask about is kept.
    const asked_about = new Set(["email", "email_verified", ...members.flatMap((rule) => Object.keys(rule.claims))]);
    const kept = Object.fromEntries(Object.entries(claims).filter(([name]) => asked_about.has(name)));
    const identity = {
      issuer: signIn.issuer,
      subject: claims.sub as string,
      name: nameIn(claims),
      claims: { ...kept, sub: claims.sub },
    };
    await beginSession(request, reply, context, identity);
    return reply.redirect(begun.returnTo, 303);
  });

  app.post("/signout", async (request, reply) => {
    await readForm(request, context, "/signout");
    await endSession(request, reply, context);
    return reply.redirect("/", 303);
  });

  async function show(request: FastifyRequest, reply: FastifyReply, status: number, returnTo: string, wrong?: string) {
    if (!mayHoldCookies(context.origin())) return sendGate(request, reply, status, noSignInPage());
    withBrowser(request, reply);
    const body = signInPage({
      issuer: signIn === undefined ? undefined : (signIn.name ?? new URL(signIn.issuer).host),
      accounts: await records.hasAccounts(),
      returnTo,
      fields: { account: formField(request, "/signin/account"), token: formField(request, "/signin/token") },
      ...(wrong === undefined ? {} : { wrong }),
    });
    return sendGate(request, reply, status, body);
  }

  function sendGate(request: FastifyRequest, reply: FastifyReply, status: number, body: Html): FastifyReply {
    const head = { title: "Sign in · Kernlock", description: "Sign in to this registry.", secret: true };
    return sendPage(context, request, reply, status, head, body);
  }

  /** The secret that ties a sign-in to this browser; made where there is none. */
  function withBrowser(request: FastifyRequest, reply: FastifyReply): string {
    const known = cookieOf(request, context.origin(), "browser");
    const secret = known ?? newSecret();
    if (request.principal.kind === "anonymous") request.formSecret = secret;
    if (known === undefined) reply.header("set-cookie", setCookie(context.origin(), "browser", secret));
    return secret;
  }
}

function accountIdentity(name: string): Identity {
  return { issuer: "local", subject: name, name, claims: { sub: name } };
}

function nameIn(claims: Readonly<Record<string, unknown>>): string {
  const names = [claims.name, claims.preferred_username, claims.email, claims.sub];
  return (names.find((one): one is string => typeof one === "string" && one.trim() !== "") ?? "somebody").slice(0, 100);
}

/** A path of this registry, never another site's address. */
export function localPath(context: Context, wanted: string | null | undefined): string {
  if (typeof wanted !== "string" || !wanted.startsWith("/") || !URL.canParse(wanted, context.origin())) return "/";
  const url = new URL(wanted, context.origin());
  const ours = url.origin === new URL(context.origin()).origin && !/^\/(signin|signout)/.test(url.pathname);
  return ours && !url.pathname.startsWith("//") ? url.pathname + url.search : "/";
}

const first = (value: string | string[] | undefined) => [value].flat()[0];
