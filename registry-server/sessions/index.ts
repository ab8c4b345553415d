/**
 * Who is signed in to the web pages. Sessions are for pages alone: no API or OCI route ever looks at a cookie.
 *
 * In a page's route:
 *   const reader = currentPrincipal(request, context);          // null: nobody
 *   html`<form method="post" action="/admin/gc">${formField(request, "/admin/gc")} …`
 *   const form = await readForm(request, context, "/admin/gc"); // checked; throws for a form that is not this session's
 *   createAdmin(context.records, context.now, actorOf(reader))  // what is done stands in the audit log under that name
 */
import type { FastifyRequest } from "fastify";
import type { Principal } from "../access.ts";
import type { Context } from "../context.ts";

export { actorOf } from "../access.ts";
export { checkFormToken, formField, formToken, readForm } from "./forms.ts";

/** Whoever reads this page: a person with a session, or a token in the Authorization header; null for nobody. */
export function currentPrincipal(request: FastifyRequest, _context: Context): Principal | null {
  return request.principal.kind === "anonymous" ? null : request.principal;
}
