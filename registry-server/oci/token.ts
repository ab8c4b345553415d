/**
 * The token route of the distribution specification. Stock clients send their credentials here and get a Bearer token:
 * by Basic (any user name, the Kernlock token as password), or by the refresh_token grant. The Bearer token is the
 * Kernlock token itself: what it may do is looked up at every request, so that a revoked one is dead at once. CI jobs
 * exchange their identity here (RFC 8693).
 */
import { fail, isPackageName } from "@kernlock/kernels/format";
import type { FastifyInstance } from "fastify";
import { principalOf, tokenFromHeader } from "../access.ts";
import { readBody } from "../body.ts";
import type { Context } from "../context.ts";
import type { createExchanger } from "../oidc/exchange.ts";
import { anonymousToken } from "../tokens.ts";

const expiresInSeconds = 300;
const maxFormBytes = 32_768;
const grants = {
  refresh: "refresh_token",
  exchange: "urn:ietf:params:oauth:grant-type:token-exchange",
} as const;
const identityTypes = ["urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt"];

export function tokenRoutes(
  app: FastifyInstance,
  context: Context,
  exchange: ReturnType<typeof createExchanger>,
): void {
  const grant = async (token: string | undefined) => {
    await principalOf(token, context.records, context.now());
    const bearer = token === undefined || token === "" ? anonymousToken : token;
    return { token: bearer, access_token: bearer, expires_in: expiresInSeconds };
  };
  const noStore = { "cache-control": "no-store" };

  app.get("/token", async (request, reply) =>
    reply.headers(noStore).send(await grant(tokenFromHeader(request.headers.authorization))),
  );

  app.post("/token", async (request, reply) => {
    const form = new URLSearchParams((await readBody(request.raw, maxFormBytes)).toString("utf8"));
    switch (form.get("grant_type")) {
      case grants.refresh:
        return reply.headers(noStore).send(await grant(form.get("refresh_token") ?? ""));
      case grants.exchange: {
        if (!identityTypes.includes(form.get("subject_token_type") ?? identityTypes[0]!)) {
          fail("KL_REGISTRY_BAD_REQUEST", "Only identity tokens (JWT) are exchanged.", {
            remedy: `Send subject_token_type=${identityTypes[0]}.`,
          });
        }
        const { token, expiresIn } = await exchange({
          identityToken: form.get("subject_token") ?? "",
          package: packageOf(form),
        });
        return reply.headers(noStore).send({
          access_token: token,
          token,
          issued_token_type: "urn:ietf:params:oauth:token-type:access_token",
          token_type: "Bearer",
          expires_in: expiresIn,
        });
      }
      default:
        return fail("KL_REGISTRY_BAD_REQUEST", "The token route takes a refresh token or an identity to exchange.", {
          remedy: `Send grant_type=${grants.refresh} or grant_type=${grants.exchange}; or GET with Basic.`,
        });
    }
  });
}

/** `resource=namespace/name`, or the scope that stock clients write. */
function packageOf(form: URLSearchParams): string {
  const name = form.get("resource") ?? /^repository:([^:]+):/.exec(form.get("scope") ?? "")?.[1] ?? "";
  if (isPackageName(name)) return name;
  return fail("KL_REGISTRY_NAME_INVALID", "The exchange does not say which package it is for.", {
    remedy: "Send resource=namespace/name.",
  });
}
