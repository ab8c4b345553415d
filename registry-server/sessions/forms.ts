/**
 * Forms that change something. Each carries a token that only this session, for this address, can have: another site
 * can make a browser send a form, but not one with the right token in it.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import type { FastifyRequest } from "fastify";
import { readBody } from "../body.ts";
import type { Context } from "../context.ts";
import { type Html, html } from "../pages/html.ts";

const maxFormBytes = 128 * 1024;
const fieldName = "form_token";

/** For a form that is sent to `action`, the path of its address. Empty where there is no session to bind it to. */
export function formToken(request: FastifyRequest, action: string): string {
  const { formSecret } = request;
  return formSecret === null ? "" : tokenFor(formSecret, action);
}

/** The same as a hidden field. */
export function formField(request: FastifyRequest, action: string): Html {
  return html`<input type="hidden" name="${fieldName}" value="${formToken(request, action)}">`;
}

/** KL_REGISTRY_FORM_STALE unless the form was made by this registry for this session and this address. */
export function checkFormToken(request: FastifyRequest, context: Context, action: string, form: URLSearchParams): void {
  const { origin } = request.headers;
  const given = Buffer.from(form.get(fieldName) ?? "");
  const wanted = Buffer.from(formToken(request, action));
  const ours = wanted.length > 0 && given.length === wanted.length && timingSafeEqual(given, wanted);
  if (!ours || (origin !== undefined && origin !== new URL(context.origin()).origin)) {
    fail("KL_REGISTRY_FORM_STALE", "The form is not one that this session was given, or the session has ended.", {
      remedy: "Open the page again, sign in if it asks, and send the form from there.",
    });
  }
}

/** Reads and checks a form. KL_REGISTRY_BAD_REQUEST, KL_REGISTRY_FORM_STALE. */
export async function readForm(request: FastifyRequest, context: Context, action: string): Promise<URLSearchParams> {
  const [type = ""] = (request.headers["content-type"] ?? "").split(";");
  if (type.trim().toLowerCase() !== "application/x-www-form-urlencoded") {
    fail("KL_REGISTRY_BAD_REQUEST", "This address takes a form.", { remedy: "Send it from the page." });
  }
  const form = new URLSearchParams((await readBody(request.raw, maxFormBytes)).toString("utf8"));
  checkFormToken(request, context, action, form);
  return form;
}

function tokenFor(secret: string, action: string): string {
  return createHmac("sha256", secret).update(`form\n${action}`).digest("base64url");
}
