/** One place that answers who is asking and what they may do. */
import { fail } from "@kernlock/kernels/format";
import type { Namespace, TokenScope } from "./admin.ts";
import type { Catalog } from "./store/catalog.ts";
import { anonymousToken, hashToken, isWellFormedToken } from "./tokens.ts";

export type Principal =
  | { readonly kind: "anonymous" }
  | { readonly kind: "token"; readonly id: string; readonly namespace: string; readonly scope: TokenScope };

export const anonymous: Principal = { kind: "anonymous" };

/** The token inside an `Authorization` header: Bearer, or Basic with any user name and the token as password. */
export function tokenFromHeader(header: string | undefined): string | undefined {
  if (header === undefined || header === "") return undefined;
  const [scheme = "", value = ""] = header.split(" ", 2);
  switch (scheme.toLowerCase()) {
    case "bearer":
      return value;
    case "basic": {
      const text = Buffer.from(value, "base64").toString("utf8");
      const colon = text.indexOf(":");
      return colon < 0 ? text : text.slice(colon + 1);
    }
    default:
      return fail("KL_REGISTRY_TOKEN_MALFORMED", "The Authorization header is neither Bearer nor Basic.", {
        remedy: "Send `Authorization: Bearer klr_…`.",
      });
  }
}

/** Throws KL_REGISTRY_TOKEN_MALFORMED or KL_REGISTRY_TOKEN_UNKNOWN (also for expired and revoked ones). */
export function principalOf(token: string | undefined, catalog: Catalog, now: Date): Principal {
  if (token === undefined || token === "" || token === anonymousToken) return anonymous;
  if (!isWellFormedToken(token)) {
    fail("KL_REGISTRY_TOKEN_MALFORMED", "The token is not one of this registry's form, or was mistyped.", {
      remedy: "Copy the whole token, from `klr_` to its last character.",
    });
  }
  const row = catalog.tokenByHash(hashToken(token));
  if (row === undefined || (row.expiresAt !== null && Date.parse(row.expiresAt) <= now.getTime())) {
    fail("KL_REGISTRY_TOKEN_UNKNOWN", "The token is unknown, expired or revoked.", {
      remedy: "Ask the registry's operator for a new one (`kernlock registry token`).",
    });
  }
  return { kind: "token", id: row.id, namespace: row.namespace, scope: row.scope };
}

export function mayWrite(principal: Principal, namespace: string): boolean {
  return principal.kind === "token" && principal.scope === "write" && principal.namespace === namespace;
}

export function mayRead(principal: Principal, namespace: Namespace | undefined): boolean {
  if (namespace?.visibility === "public") return true;
  return namespace !== undefined && principal.kind === "token" && principal.namespace === namespace.name;
}

/** Private namespaces whose kernels may be listed to this reader. */
export function privateNamespacesOf(principal: Principal): string[] {
  return principal.kind === "token" ? [principal.namespace] : [];
}

/** A private and an absent namespace look the same to those who may not read it. */
export function requireRead(principal: Principal, namespace: Namespace | undefined): Namespace {
  if (namespace !== undefined && mayRead(principal, namespace)) return namespace;
  return principal.kind === "anonymous" ? needsToken("read") : foreign(principal.namespace);
}

export function requireWrite(principal: Principal, namespace: string): { readonly tokenId: string } {
  if (principal.kind === "anonymous") return needsToken("write");
  if (principal.namespace !== namespace) return foreign(principal.namespace);
  if (principal.scope !== "write") {
    fail("KL_REGISTRY_TOKEN_SCOPE", "The token may read, and this needs one that may write.", {
      remedy: `Ask for a token of scope "write" for namespace "${namespace}".`,
      details: { scope: principal.scope, needed: "write" },
    });
  }
  return { tokenId: principal.id };
}

function needsToken(scope: TokenScope): never {
  return fail("KL_REGISTRY_UNAUTHORIZED", `This needs a token that may ${scope} here.`, {
    remedy: "Log in with `kernlock login`, or send `Authorization: Bearer klr_…`.",
    details: { needed: scope },
  });
}

function foreign(own: string): never {
  return fail("KL_REGISTRY_TOKEN_NAMESPACE", "The token is for another namespace.", {
    remedy: "Use a token of the namespace you ask about.",
    details: { namespace: own },
  });
}
