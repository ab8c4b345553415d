/** Namespaces as pages. What changes something is done by the code that the commands use, and stands in the audit log. */
import { fail } from "@kernlock/kernels/format";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { actorOf, may, readerOf, requireAction } from "../access.ts";
import { createAdmin, type Namespace, type Role, roles } from "../admin.ts";
import type { Context } from "../context.ts";
import type { SignInIssuer } from "../oidc/code-flow.ts";
import { formField, readForm } from "../sessions/forms.ts";
import type { Html } from "./html.ts";
import { createLookup, policyOf } from "./lookup.ts";
import { type MemberKind, memberKinds, membersBody } from "./members.ts";
import { kernelsBody, type NamespaceTab, namespaceFrame, namespacesPage, policyBody } from "./namespace.ts";
import { sendNotFound, sendPage } from "./send.ts";
import { lifetimes, type TokensShown, tokensBody } from "./tokens.ts";

type Get = FastifyRequest<{ Params: { namespace: string } }>;

const maxKernels = 200;

export function namespaceRoutes(app: FastifyInstance, context: Context, signIn: SignInIssuer | undefined): void {
  const { records } = context;
  const lookup = createLookup(context);

  app.get("/namespaces", async (request, reply) => {
    const all = await records.namespaces();
    const seen = await Promise.all(all.map(({ name }) => lookup.namespace(request.principal, name)));
    const list = await Promise.all(
      seen
        .filter((one) => one !== undefined)
        .map(async (namespace) => ({
          namespace,
          kernels: (await records.kernelsOf(namespace.name, readerOf(request.principal), maxKernels)).length,
        })),
    );
    const head = { title: "Namespaces · Kernlock", description: "Namespaces of this registry." };
    return sendPage(context, request, reply, 200, head, namespacesPage(list));
  });

  app.get("/namespaces/:namespace", async (request: Get, reply) => {
    const namespace = await lookup.namespace(request.principal, request.params.namespace);
    if (namespace === undefined) return sendNotFound(context, request, reply);
    const kernels = await records.kernelsOf(namespace.name, readerOf(request.principal), maxKernels);
    const mirrors = (await records.mirrors()).filter((mirror) => mirror.namespace === namespace.name);
    return send(request, reply, namespace, "kernels", kernelsBody(await lookup.withFacets(kernels), mirrors));
  });

  app.get("/namespaces/:namespace/policy", async (request: Get, reply) => {
    const namespace = await lookup.namespace(request.principal, request.params.namespace);
    if (namespace === undefined) return sendNotFound(context, request, reply);
    const policy = namespace.kind === "kernels" ? policyOf(namespace) : undefined;
    return send(request, reply, namespace, "policy", policyBody(namespace, policy));
  });

  app.get("/namespaces/:namespace/members", async (request: Get, reply) => {
    const namespace = await ours(request, reply);
    if (namespace === undefined) return reply;
    const path = `/namespaces/${namespace.name}/members`;
    const body = membersBody({
      namespace,
      members: await records.members({ namespace: namespace.name }),
      everywhere: await records.members({ namespace: "*" }),
      accounts: (await records.accounts()).map(({ name }) => name),
      issuer: signIn === undefined ? undefined : (signIn.name ?? new URL(signIn.issuer).host),
      fields:
        request.principal.kind === "person"
          ? { add: formField(request, path), remove: formField(request, `${path}/remove`) }
          : undefined,
    });
    return send(request, reply, namespace, "members", body);
  });

  app.post("/namespaces/:namespace/members", async (request: Get, reply) => {
    const { admin, name, form, path } = await change(request, "/members");
    const kind = form.get("kind") as MemberKind;
    const claim = Object.hasOwn(memberKinds, kind) ? memberKinds[kind] : undefined;
    const issuer = kind === "account" ? "local" : signIn?.issuer;
    if (claim === undefined || issuer === undefined) return malformed();
    await admin.addMember({
      namespace: name,
      role: roleIn(form),
      issuer,
      claims: { [claim]: (form.get("value") ?? "").trim() },
      label: textIn(form, "label"),
    });
    return reply.redirect(path, 303);
  });

  app.post("/namespaces/:namespace/members/remove", async (request: Get, reply) => {
    const { admin, name, form } = await change(request, "/members/remove");
    // Ids of other namespaces are not this admin's.
    const own = (await records.members({ namespace: name })).find(({ id }) => id === form.get("id"));
    if (own !== undefined) await admin.removeMember(own.id);
    return reply.redirect(`/namespaces/${name}/members`, 303);
  });

  app.get("/namespaces/:namespace/tokens", async (request: Get, reply) => {
    const namespace = await ours(request, reply);
    return namespace === undefined ? reply : showTokens(request, reply, namespace, undefined);
  });

  app.post("/namespaces/:namespace/tokens", async (request: Get, reply) => {
    const { admin, name, form } = await change(request, "/tokens");
    const lifetime = lifetimes.find(([value]) => value === form.get("lifetime"));
    if (lifetime === undefined) return malformed();
    const [, , days] = lifetime;
    const only = textIn(form, "package");
    const { token, ...info } = await admin.createToken({
      namespace: name,
      role: roleIn(form),
      label: textIn(form, "label"),
      ...(only === "" ? {} : { package: only }),
      ...(days === null ? {} : { expiresAt: new Date(context.now().getTime() + days * 86_400_000) }),
    });
    const namespace = await lookup.namespace(request.principal, name);
    return showTokens(request, reply, namespace!, { token, info });
  });

  app.post("/namespaces/:namespace/tokens/revoke", async (request: Get, reply) => {
    const { admin, name, form } = await change(request, "/tokens/revoke");
    const own = (await records.tokens(name)).find(({ id }) => id === form.get("id"));
    if (own !== undefined) await admin.revokeToken(own.id);
    return reply.redirect(`/namespaces/${name}/tokens`, 303);
  });

  app.post("/namespaces/:namespace/publishers/remove", async (request: Get, reply) => {
    const { admin, name, form } = await change(request, "/publishers/remove");
    const own = (await records.trustedPublishers({ namespace: name })).find(({ id }) => id === form.get("id"));
    if (own !== undefined) await admin.removeTrustedPublisher(own.id);
    return reply.redirect(`/namespaces/${name}/tokens`, 303);
  });

  async function showTokens(request: Get, reply: FastifyReply, namespace: Namespace, made: TokensShown["made"]) {
    const path = `/namespaces/${namespace.name}`;
    const field = (action: string) => formField(request, path + action);
    const body = tokensBody({
      namespace,
      tokens: await records.tokens(namespace.name),
      publishers: await records.trustedPublishers({ namespace: namespace.name }),
      packages: (await records.kernelsOf(namespace.name, "*", maxKernels)).map(({ repository }) => repository),
      now: context.now(),
      fields:
        request.principal.kind === "person"
          ? { create: field("/tokens"), revoke: field("/tokens/revoke"), distrust: field("/publishers/remove") }
          : undefined,
      made,
      origin: context.origin(),
    });
    return send(request, reply, namespace, "tokens", body);
  }

  /** For its admins; others are sent to sign in, or refused. */
  async function ours(request: Get, reply: FastifyReply): Promise<Namespace | undefined> {
    const { principal, params } = request;
    const namespace = await lookup.namespace(principal, params.namespace);
    if (namespace !== undefined && may(principal, "administer", namespace.name)) return namespace;
    if (principal.kind === "anonymous") {
      reply.redirect(`/signin?return=${encodeURIComponent(request.url)}`, 303);
    } else if (namespace === undefined) sendNotFound(context, request, reply);
    else requireAction(principal, "administer", namespace.name);
    return undefined;
  }

  /** A form of an admin of the namespace. */
  async function change(request: Get, action: string) {
    const { principal, params } = request;
    const path = `/namespaces/${params.namespace}${action}`;
    const form = await readForm(request, context, path);
    requireAction(principal, "administer", params.namespace);
    const namespace = await lookup.namespace(principal, params.namespace);
    if (namespace === undefined) {
      return fail("KL_REGISTRY_NAMESPACE_UNKNOWN", "There is no such namespace.", { remedy: "Look at the list." });
    }
    return { admin: createAdmin(records, context.now, actorOf(principal)), name: namespace.name, form, path };
  }

  function send(request: Get, reply: FastifyReply, namespace: Namespace, tab: NamespaceTab, body: Html): FastifyReply {
    const { name } = namespace;
    const administers = may(request.principal, "administer", name);
    const head = { title: `${name} · Kernlock`, description: `Kernels of ${name}.`, secret: tab === "tokens" };
    return sendPage(context, request, reply, 200, head, namespaceFrame(namespace, administers, tab, body));
  }
}

function roleIn(form: URLSearchParams): Role {
  return roles.find((role) => role === form.get("role")) ?? malformed();
}

function textIn(form: URLSearchParams, field: string): string {
  return (form.get(field) ?? "").trim().slice(0, 200);
}

function malformed(): never {
  return fail("KL_REGISTRY_BAD_REQUEST", "The form is not one of this page's.", { remedy: "Send it from the page." });
}
