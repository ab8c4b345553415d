/** One place that answers who is asking and what they may do. */
import { fail } from "@kernlock/kernels/format";
import type { Namespace, Role } from "./admin.ts";
import type { Records } from "./store/records.ts";
import { anonymousToken, hashToken, isWellFormedToken } from "./tokens.ts";

export type Principal =
  | { readonly kind: "anonymous" }
  | {
      readonly kind: "token";
      readonly id: string;
      /** `*` is every namespace. */
      readonly namespace: string;
      /** Where set, the only `namespace/name` it may write to. */
      readonly package: string | null;
      readonly role: Role;
    };

export const anonymous: Principal = { kind: "anonymous" };

/** What each role may do in its namespace. Everything that is not here is refused. */
export const actions = {
  reader: ["read"],
  /** Attaches signed statements to what is published, and nothing else. */
  auditor: ["read", "attest"],
  publisher: ["read", "attest", "publish", "yank"],
  admin: ["read", "attest", "publish", "yank", "administer"],
} as const satisfies Record<Role, readonly string[]>;

export type Action = (typeof actions)[Role][number];

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
export async function principalOf(token: string | undefined, records: Records, now: Date): Promise<Principal> {
  if (token === undefined || token === "" || token === anonymousToken) return anonymous;
  if (!isWellFormedToken(token)) {
    fail("KL_REGISTRY_TOKEN_MALFORMED", "The token is not one of this registry's form, or was mistyped.", {
      remedy: "Copy the whole token, from `klr_` to its last character.",
    });
  }
  const row = await records.tokenByHash(hashToken(token));
  if (row === undefined || (row.expiresAt !== null && Date.parse(row.expiresAt) <= now.getTime())) {
    fail("KL_REGISTRY_TOKEN_UNKNOWN", "The token is unknown, expired or revoked.", {
      remedy: "Ask the registry's operator for a new one (`kernlock registry token`).",
    });
  }
  return { kind: "token", id: row.id, namespace: row.namespace, package: row.package, role: row.role };
}

/** `repository` is `namespace/name`, or a namespace where no package is meant. */
export function may(principal: Principal, action: Exclude<Action, "read">, repository: string): boolean {
  if (principal.kind !== "token" || !(actions[principal.role] as readonly string[]).includes(action)) return false;
  const [namespace] = repository.split("/");
  if (principal.namespace !== "*" && principal.namespace !== namespace) return false;
  return principal.package === null || principal.package === repository;
}

/** Who may publish sees what is not published yet. */
export function seesUnpublished(principal: Principal, repository: string): boolean {
  return may(principal, "publish", repository);
}

export function mayRead(principal: Principal, namespace: Pick<Namespace, "name" | "visibility"> | undefined): boolean {
  if (namespace?.visibility === "public") return true;
  if (namespace === undefined || principal.kind !== "token") return false;
  return principal.namespace === "*" || principal.namespace === namespace.name;
}

/** Whose private kernels this reader is shown in lists: a namespace, `*` for all, or none. */
export function readerOf(principal: Principal): string {
  return principal.kind === "token" ? principal.namespace : "";
}

/** A private and an absent namespace look the same to those who may not read it. */
export function requireRead(principal: Principal, namespace: Namespace | undefined): Namespace {
  if (namespace !== undefined && mayRead(principal, namespace)) return namespace;
  if (principal.kind === "anonymous") return needsToken("read");
  if (principal.namespace === "*") {
    fail("KL_REGISTRY_NAMESPACE_UNKNOWN", "There is no such namespace.", {
      remedy: "Create it with `kernlock registry namespace`.",
    });
  }
  return foreign(principal.namespace);
}

export function requireAction(
  principal: Principal,
  action: Exclude<Action, "read">,
  repository: string,
): { readonly tokenId: string; readonly actor: string } {
  if (principal.kind === "anonymous") return needsToken(action);
  const [namespace = ""] = repository.split("/");
  if (principal.namespace !== "*" && principal.namespace !== namespace) return foreign(principal.namespace);
  if (!may(principal, action, repository)) {
    if (principal.package !== null && principal.package !== repository) {
      fail("KL_REGISTRY_TOKEN_NAMESPACE", "The token is for another package.", {
        remedy: "Use a token of the package that you write to.",
        details: { package: principal.package },
      });
    }
    fail("KL_REGISTRY_TOKEN_SCOPE", `The token's role is ${principal.role}, which may not ${action}.`, {
      remedy: `Ask for a token with a role that may: ${rolesFor(action).join(", ")}.`,
      details: { role: principal.role, needed: action },
    });
  }
  return { tokenId: principal.id, actor: `token:${principal.id}` };
}

function rolesFor(action: string): string[] {
  return Object.entries(actions).flatMap(([role, list]) =>
    (list as readonly string[]).includes(action) ? [role] : [],
  );
}

function needsToken(action: string): never {
  return fail("KL_REGISTRY_UNAUTHORIZED", `This needs a token that may ${action} here.`, {
    remedy: "Log in with `kernlock login`, or send `Authorization: Bearer klr_…`.",
    details: { needed: action },
  });
}

function foreign(own: string): never {
  return fail("KL_REGISTRY_TOKEN_NAMESPACE", "The token is for another namespace.", {
    remedy: "Use a token of the namespace you ask about.",
    details: { namespace: own },
  });
}
