/** How a request is refused: counted, logged, and told to the client. */
import type { FastifyBaseLogger } from "fastify";
import type { Context } from "./context.ts";
import { type Asked, reads } from "./gate.ts";
import { envelope, type HttpError, toHttpError } from "./http-errors.ts";

export interface Refusal extends HttpError {
  readonly headers: Readonly<Record<string, string>>;
}

/** Counts and logs it. */
export function noteRefusal(thrown: unknown, log: FastifyBaseLogger, context: Context): Refusal {
  const found = toHttpError(thrown);
  context.metrics.count("kernlock_refusals_total", { code: found.error.code });
  if (found.status >= 500) log.error({ err: found.error.cause ?? found.error }, found.error.message);
  else log.info({ code: found.error.code }, found.error.message);
  const { retry_after: wait } = (found.error.details ?? {}) as { retry_after?: number };
  return {
    ...found,
    headers: {
      ...(wait !== undefined || found.status === 503 ? { "retry-after": String(wait ?? 5) } : {}),
      // Whatever of a refused body is still coming, nobody will read it.
      ...(found.status === 413 ? { connection: "close" } : {}),
    },
  };
}

/** The same for clients, with what they are sent. */
export function refusalAnswer(
  thrown: unknown,
  asked: Asked,
  log: FastifyBaseLogger,
  context: Context,
): Pick<Refusal, "status" | "headers"> & { readonly body: Buffer } {
  const found = noteRefusal(thrown, log, context);
  const login = found.status === 401 ? { "www-authenticate": challenge(asked, context.origin()) } : {};
  return {
    status: found.status,
    headers: { ...found.headers, ...login, "content-type": "application/json" },
    body: Buffer.from(envelope(found)),
  };
}

function challenge(asked: Asked, origin: string): string {
  const repository = /^\/v2\/([a-z0-9._-]+\/[a-z0-9._-]+)\//.exec(asked.url)?.[1];
  const scope =
    repository === undefined ? "" : `,scope="repository:${repository}:${reads(asked) ? "pull" : "pull,push"}"`;
  return `Bearer realm="${origin}/token",service="kernlock"${scope}`;
}
