/**
 * The token route of the distribution specification. Stock clients send their credentials here and get a Bearer token:
 * by Basic (any user name, the Kernlock token as password), or by the refresh_token grant. The Bearer token is the
 * Kernlock token itself: what it may do is looked up at every request, so that a revoked one is dead at once.
 */
import { fail } from "@kernlock/kernels/format";
import type { FastifyInstance } from "fastify";
import { principalOf, tokenFromHeader } from "../access.ts";
import type { Context } from "../context.ts";
import { anonymousToken } from "../tokens.ts";

const expiresInSeconds = 300;

export function tokenRoutes(app: FastifyInstance, context: Context): void {
  const grant = (token: string | undefined) => {
    principalOf(token, context.catalog, context.now());
    const bearer = token === undefined || token === "" ? anonymousToken : token;
    return { token: bearer, access_token: bearer, expires_in: expiresInSeconds };
  };
  const noStore = { "cache-control": "no-store" };

  app.get("/token", async (request, reply) =>
    reply.headers(noStore).send(grant(tokenFromHeader(request.headers.authorization))),
  );

  app.post("/token", async (request, reply) => {
    const form = new URLSearchParams(await readForm(request.raw));
    if (form.get("grant_type") !== "refresh_token") {
      fail("KL_REGISTRY_BAD_REQUEST", "The token route takes grant_type=refresh_token, or GET with Basic.", {
        remedy: "Send the Kernlock token as refresh_token.",
      });
    }
    return reply.headers(noStore).send(grant(form.get("refresh_token") ?? ""));
  });
}

async function readForm(source: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += chunk.byteLength;
    if (size > 16_384) fail("KL_REGISTRY_BAD_REQUEST", "The form is too large.", { remedy: "Send only the grant." });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
