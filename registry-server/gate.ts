/** What every request passes before it is answered, whoever answers it: who asks, and how often. */
import type { IncomingHttpHeaders } from "node:http";
import { KernlockError } from "@kernlock/kernels/format";
import { type Principal, principalOf, tokenFromHeader } from "./access.ts";
import type { Limiter } from "./limits.ts";
import type { Records } from "./store/records.ts";

/** A request, as far as it can be refused before anybody looks at what it asks for. */
export interface Asked {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  /** Of the client, behind whatever proxies are trusted. */
  readonly ip: string;
}

export interface Gate {
  /** KL_REGISTRY_TOKEN_*, and KL_REGISTRY_RATE_LIMIT for who guesses. */
  recognise(asked: Asked): Promise<Principal>;
  /** Takes one of the caller's requests; the value of the `ratelimit` header. KL_REGISTRY_RATE_LIMIT. */
  take(asked: Asked, principal: Principal): string;
}

/** On every answer. */
export const standingHeaders = {
  "x-content-type-options": "nosniff",
  "docker-distribution-api-version": "registry/2.0",
} as const;

export function createGate(records: Records, limiter: Limiter, now: () => Date): Gate {
  return {
    async recognise(asked) {
      limiter.check("login", asked.ip);
      try {
        return await principalOf(tokenFromHeader(asked.headers.authorization), records, now());
      } catch (error) {
        // Guessing tokens is slow.
        limiter.take("login", asked.ip);
        throw error;
      }
    },
    take(asked, principal) {
      const caller = principal.kind === "token" ? `token:${principal.id}` : asked.ip;
      const { limit, remaining, reset } = limiter.take(reads(asked) ? "read" : "write", caller);
      // As in the IETF draft "RateLimit header fields".
      return `limit=${limit}, remaining=${remaining}, reset=${reset}`;
    },
  };
}

export const reads = ({ method }: Pick<Asked, "method">) => method === "GET" || method === "HEAD";

/** A browser sends a reader's credentials along; another site must not write with them. KL_REGISTRY_CROSS_SITE. */
export function refuseCrossSite(asked: Asked): void {
  const site = asked.headers["sec-fetch-site"];
  if (reads(asked) || site === undefined) return;
  if (site !== "same-origin" && site !== "none") {
    throw new KernlockError("KL_REGISTRY_CROSS_SITE", "A page of another site asked to write.", {
      remedy: "Push with a client, not from a web page.",
    });
  }
}
