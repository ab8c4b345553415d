/** Sends a page, under the policy that all of them have. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Principal } from "../access.ts";
import { varying } from "../api/routes.ts";
import type { Context } from "../context.ts";
import { formField } from "../sessions/forms.ts";
import { decidesSomewhere } from "./admin/frame.ts";
import { type Html, html } from "./html.ts";
import { contentSecurityPolicy, page, type Reader } from "./layout.ts";

export interface PageHead {
  readonly title: string;
  readonly description: string;
  /** Text in the search field. */
  readonly query?: string;
  readonly home?: boolean;
  /** For an answer that shows a secret: nothing keeps it. */
  readonly secret?: boolean;
}

export function sendPage(
  context: Context,
  request: FastifyRequest,
  reply: FastifyReply,
  status: number,
  { secret = false, ...head }: PageHead,
  body: Html,
): FastifyReply {
  const kept = secret || request.principal.kind === "person" ? { "cache-control": "no-store" } : {};
  return reply
    .code(status)
    .headers({
      ...varying(request),
      ...kept,
      vary: "authorization, cookie",
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": contentSecurityPolicy,
      // Within the registry, so that a form's origin is told; to nobody else.
      "referrer-policy": "same-origin",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-resource-policy": "same-origin",
      "permissions-policy": "camera=(), geolocation=(), microphone=()",
    })
    .send(page({ ...head, host: new URL(context.origin()).host, reader: readerShown(request) }, body));
}

/** The same to those who may not read it and where there is nothing. */
export function sendNotFound(context: Context, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const signIn =
    request.principal.kind === "anonymous"
      ? html`, or <a href="/signin?return=${encodeURIComponent(request.url)}">sign in</a> if you have a role in its namespace`
      : null;
  const body = html`<h1>Nothing here</h1><p>Nothing is published at this address, or it is private. <a href="/">Search</a>${signIn}.</p>`;
  const head = { title: "Not found · Kernlock", description: "Nothing is here." };
  return sendPage(context, request, reply, 404, head, body);
}

function readerShown(request: FastifyRequest): Reader {
  const { principal } = request;
  return {
    name: nameOf(principal),
    signOut: principal.kind === "person" ? formField(request, "/signout") : null,
    administers: decidesSomewhere(principal),
  };
}

function nameOf(principal: Principal): string | null {
  switch (principal.kind) {
    case "anonymous":
      return null;
    case "token":
      return `token for ${principal.namespace === "*" ? "all namespaces" : principal.namespace}`;
    case "person":
      return principal.name;
  }
}
