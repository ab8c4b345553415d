/** One place that answers who is asking and what they may do. */
import { fail } from "@kernlock/kernels/format";
import type { Namespace, Role } from "./admin.ts";
import type { Records } from "./store/records.ts";
import { anonymousToken, hashToken, isWellFormedToken } from "./tokens.ts";

/** A role somewhere. */
export interface Grant {
  /** `*` is every namespace. */
  readonly namespace: string;
  /** Where set, the only `namespace/name` it may write to. */
  readonly package: string | null;
  readonly role: Role;
}

/** Somebody who is signed in to the pages. API and OCI routes never see one. */
export interface Person {
  readonly kind: "person";
  /** As people call them. */
  readonly name: string;
  /** `local` for an account of this registry, `token` for who signed in with a token, else an issuer's address. */
  readonly issuer: string;
  readonly subject: string;
  /** What the member rules give them at this moment; none for somebody who lost all of it. */
  readonly grants: readonly Grant[];
}

export type Principal =
  | { readonly kind: "anonymous" }
  | ({ readonly kind: "token"; readonly id: string } & Grant)
  | Person;

export const anonymous: Principal = { kind: "anonymous" };

/** What each role may do in its namespace. Everything that is not here is refused. */
export const actions = {
  reader: ["read"],
  /** Attaches signed statements to what is published or waits for a review, decides reviews, files advisories. */
  auditor: ["read", "attest", "review", "advise"],
  publisher: ["read", "attest", "publish", "yank"],
  admin: ["read", "attest", "publish", "yank", "administer", "review", "advise"],
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

export function grantsOf(principal: Principal): readonly Grant[] {
  switch (principal.kind) {
    case "anonymous":
      return [];
    case "token":
      return [principal];
    case "person":
      return principal.grants;
  }
}

/** Whether a grant reaches into a namespace; `*` asks for all of them. */
const covers = (grant: Grant, namespace: string) => grant.namespace === "*" || grant.namespace === namespace;

/** `repository` is `namespace/name`, or a namespace where no package is meant; `*` for the whole registry. */
export function may(principal: Principal, action: Exclude<Action, "read">, repository: string): boolean {
  const [namespace = ""] = repository.split("/");
  return grantsOf(principal).some(
    (grant) =>
      (actions[grant.role] as readonly string[]).includes(action) &&
      covers(grant, namespace) &&
      (grant.package === null || grant.package === repository),
  );
}

/** How the audit log names them. */
export function actorOf(principal: Principal): string {
  switch (principal.kind) {
    case "anonymous":
      return "anonymous";
    case "token":
      return `token:${principal.id}`;
    case "person":
      return principal.issuer === "token" || principal.issuer === "local"
        ? `${principal.issuer}:${principal.subject}`
        : `person:${principal.issuer} ${principal.subject}`;
  }
}

/** Who may publish, or decide about what is to be published, sees what is not published yet. */
export function seesUnpublished(principal: Principal, repository: string): boolean {
  return may(principal, "publish", repository) || may(principal, "review", repository);
}

export function mayRead(principal: Principal, namespace: Pick<Namespace, "name" | "visibility"> | undefined): boolean {
  if (namespace?.visibility === "public") return true;
  return namespace !== undefined && grantsOf(principal).some((grant) => covers(grant, namespace.name));
}

/** Whose private kernels this reader is shown in lists: `*` for all, or namespaces, each between commas. */
export function readerOf(principal: Principal): string {
  const namespaces = grantsOf(principal).map((grant) => grant.namespace);
  return namespaces.includes("*") ? "*" : namespaces.map((name) => `,${name},`).join("");
}

/** A private and an absent namespace look the same to those who may not read it. */
export function requireRead(principal: Principal, namespace: Namespace | undefined): Namespace {
  if (namespace !== undefined && mayRead(principal, namespace)) return namespace;
  if (principal.kind === "anonymous") return needsToken("read");
  const own = grantsOf(principal).map((grant) => grant.namespace);
  if (own.includes("*")) {
    fail("KL_REGISTRY_NAMESPACE_UNKNOWN", "There is no such namespace.", {
      remedy: "Create it with `kernlock registry namespace`.",
    });
  }
  return foreign(own.join(", "));
}

export function requireAction(
  principal: Principal,
  action: Exclude<Action, "read">,
  repository: string,
): { readonly tokenId: string; readonly actor: string } {
  if (principal.kind === "anonymous") return needsToken(action);
  const actor = actorOf(principal);
  if (may(principal, action, repository)) return { tokenId: principal.kind === "token" ? principal.id : actor, actor };
  const [namespace = ""] = repository.split("/");
  const all = grantsOf(principal);
  const [grant] = all.filter((one) => covers(one, namespace));
  if (grant === undefined) return foreign(all.map((one) => one.namespace).join(", "));
  if (grant.package !== null && grant.package !== repository) {
    fail("KL_REGISTRY_TOKEN_NAMESPACE", "The token is for another package.", {
      remedy: "Use a token of the package that you write to.",
      details: { package: grant.package },
    });
  }
  const whose = principal.kind === "person" ? "Your role here" : "The token's role";
  return fail("KL_REGISTRY_TOKEN_SCOPE", `${whose} is ${grant.role}, which may not ${action}.`, {
    remedy: `Ask for a role that may: ${rolesFor(action).join(", ")}.`,
    details: { role: grant.role, needed: action },
  });
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
  return fail("KL_REGISTRY_TOKEN_NAMESPACE", "The token, or your role, is for another namespace.", {
    remedy: "Use a token of the namespace you ask about, or ask its admins for a role.",
    details: { namespace: own },
  });
}
