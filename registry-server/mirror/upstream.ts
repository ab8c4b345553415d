/** The other registry, as a mirror asks it, and what its failures mean to those who asked us. */
import type { lookup } from "node:dns";
import { readFileSync } from "node:fs";
import { fail, KernlockError, mediaTypes } from "@kernlock/kernels/format";
import { HttpClient, type HttpClientOptions, RegistryClient } from "@kernlock/kernels/oci";
import { guardedLookup } from "./addresses.ts";
import { upstreamCredentials } from "./credentials.ts";
import { isLoopback, type Mirror, upstreamRepository } from "./mirrors.ts";
import { viaHeaders } from "./via.ts";

export interface UpstreamOptions {
  /** Longest wait for an answer and between its bytes. */
  readonly timeoutMs: number;
  /** Longest wait for a whole manifest or list. */
  readonly documentMs: number;
  readonly lookup?: typeof lookup | undefined;
}

export interface Upstream {
  readonly registry: RegistryClient;
  /** For what is no part of the distribution specification. */
  readonly http: HttpClient;
  close(): Promise<void>;
}

/** Manifests of plain OCI, and what Docker had before it. */
export const artifactTypes = [
  mediaTypes.index,
  mediaTypes.manifest,
  "application/vnd.docker.distribution.manifest.list.v2+json",
  "application/vnd.docker.distribution.manifest.v2+json",
];

export function openUpstream(mirror: Mirror, options: UpstreamOptions): Upstream {
  const { origin, settings } = mirror;
  const own = new URL(origin);
  // The operator's word: hosts, and where the upstream itself is given by address, that address.
  const named = (url: URL) => url.origin === origin || settings.hosts.includes(url.host);
  const shared: HttpClientOptions = {
    origin,
    timeoutMs: options.timeoutMs,
    lookup: guardedLookup(settings.privateAddresses || own.hostname === "localhost", options.lookup),
    ...(settings.ca === null ? {} : { ca: readAuthorities(settings.ca) }),
    headers: () => viaHeaders(mirror),
    onRedirect(to) {
      if (!named(to)) {
        fail("KL_MIRROR_ADDRESS", "The upstream redirects to a host that the mirror does not name.", {
          remedy: "If the host is the upstream's storage, declare the mirror with --host.",
        });
      }
    },
  };
  const credentials = upstreamCredentials(settings.credentials, {
    ...shared,
    mayAsk: (url) =>
      named(url) && (url.protocol === "https:" || (own.protocol === "http:" && isLoopback(url.hostname))),
  });
  const http = new HttpClient({ ...shared, credentials });
  const registry = new RegistryClient({
    ...shared,
    credentials,
    documentMs: options.documentMs,
    manifestTypes: artifactTypes,
    repository: (name) => upstreamRepository(mirror, name),
  });
  return {
    registry,
    http,
    async close() {
      await Promise.all([registry.close(), http.close()]);
    },
  };
}

function readAuthorities(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    return fail("KL_MIRROR_CONFIG", "The mirror's file of certificate authorities cannot be read.", {
      remedy: "Ask the registry's operator to look at the mirror's --ca.",
      cause,
    });
  }
}

/** What a failure of the upstream comes to. */
export type Failure =
  /** It has no such thing. */
  | { readonly kind: "absent" }
  /** It cannot be asked now; what is held goes on being served. */
  | { readonly kind: "unavailable"; readonly error: KernlockError; readonly retryAfter: number | undefined }
  /** It does not want to, or what it sent cannot be taken. */
  | { readonly kind: "refused"; readonly error: KernlockError };

const oursAlready = /^KL_(?:MIRROR|VERDICT|BUNDLE|POLICY|FEED|TRUST)_/;
const ourOwn = /^KL_REGISTRY_(?:QUARANTINED|STORAGE_FULL|INTERNAL|NOT_READY|VERSION_EXISTS)$/;

/** Nothing of what the upstream says in words goes on to clients: it might name what it should not. */
export function failureOf(thrown: unknown): Failure {
  if (!(thrown instanceof KernlockError)) return { kind: "refused", error: internal(thrown) };
  const { code, details } = thrown;
  const { status, retry_after: retryAfter } = details as { status?: number; retry_after?: number };
  if (code === "KL_OCI_NOT_FOUND" || status === 404 || status === 410) return { kind: "absent" };
  if (code === "KL_REGISTRY_QUARANTINED" && status === 403) {
    return {
      kind: "refused",
      error: coded("KL_REGISTRY_QUARANTINED", "Its upstream holds this version in quarantine.", thrown),
    };
  }
  if (status === 401 || status === 403) {
    return {
      kind: "refused",
      error: coded("KL_MIRROR_DENIED", "The upstream does not let this registry have it.", thrown, {
        remedy: "Ask the registry's operator to look at the mirror's credentials.",
      }),
    };
  }
  if (status === 429 || (status !== undefined && status >= 500) || /^KL_OCI_(?:CONNECT|TIMEOUT|ABORTED)$/.test(code)) {
    const retry = retryAfter === undefined ? undefined : Math.min(Math.max(1, retryAfter), 3600);
    return { kind: "unavailable", error: unavailable(retry ?? 5, thrown), retryAfter: retry };
  }
  if (oursAlready.test(code) || ourOwn.test(code)) return { kind: "refused", error: thrown };
  // Our own words about what it sent; those that it said itself come with a status.
  const what = status === undefined ? `: ${thrown.message}` : ".";
  return {
    kind: "refused",
    error: coded("KL_MIRROR_UPSTREAM", `The upstream sent what is not taken (${code})${what}`, thrown, {
      remedy: "Tell whoever runs the upstream; nothing of it was kept.",
      details: { cause: code },
    }),
  };
}

export function unavailable(retryAfter: number, cause?: unknown): KernlockError {
  return coded("KL_MIRROR_UNAVAILABLE", "The upstream of this mirror cannot be asked now.", cause, {
    remedy: "Try again later; what was mirrored before is served all the time.",
    details: { retry_after: retryAfter },
  });
}

function internal(cause: unknown): KernlockError {
  return cause instanceof Error && "code" in cause
    ? (cause as KernlockError)
    : coded("KL_REGISTRY_INTERNAL", "The registry failed; what was asked did not happen.", cause);
}

function coded(
  code: ConstructorParameters<typeof KernlockError>[0],
  message: string,
  cause: unknown,
  more: { remedy?: string; details?: Record<string, unknown> } = {},
): KernlockError {
  return new KernlockError(code, message, { cause, ...more });
}
