import { randomBytes } from "node:crypto";
import { fail, isPackageName } from "@kernlock/kernels/format";
import { parsePolicy } from "@kernlock/policies/trust";
import { createNotices, type Notices } from "./advisories/notices.ts";
import { type MirrorDeclarations, mirrorDeclarations } from "./mirror/declarations.ts";
import { checkPublisherClaims, type IssuerKind } from "./oidc/claims.ts";
import { latestOf } from "./publish/documents.ts";
import { type PolicyDocuments, policyDocuments } from "./publish/keeping.ts";
import { createPeople, type People } from "./sessions/people.ts";
import { type DataOptions, openRecords } from "./store/open.ts";
import type { AuditFilter, AuditHead, AuditRow, PublishedState, Records } from "./store/records.ts";
import { hashToken, newToken } from "./tokens.ts";

export type Visibility = "public" | "private";
export const roles = ["reader", "publisher", "auditor", "admin"] as const;
export type Role = (typeof roles)[number];
/** `kernels`: tags are versions, judged when they are put, and never move. `artifacts`: plain OCI, tags move. */
export type NamespaceKind = "kernels" | "artifacts";

export interface Namespace {
  readonly name: string;
  readonly visibility: Visibility;
  /** Text of the trust policy, in the language of kernels.policy.yaml: what every publish here has to meet. */
  readonly policy: string;
  readonly kind: NamespaceKind;
  /** Whether tags, manifests and blobs may be deleted; published kernels never are. */
  readonly deletion: "never" | "allowed";
  /** `required`: a version that is put waits until somebody else approves it. */
  readonly review: "none" | "required";
  readonly createdAt: string;
}

export interface TokenInfo {
  /** Names the token in lists and logs; it is not a secret. */
  readonly id: string;
  /** `*`: every namespace. */
  readonly namespace: string;
  /** The only package it may write to, or null. */
  readonly package: string | null;
  readonly role: Role;
  readonly label: string;
  /** JSON of the outside identity's claims that it was exchanged for, or null. */
  readonly identity: string | null;
  readonly createdAt: string;
  readonly expiresAt: string | null;
}

/** An outside identity (a CI job, say) that may be exchanged for a short-lived publisher's token. */
export interface TrustedPublisher {
  readonly id: string;
  readonly namespace: string;
  readonly package: string | null;
  readonly kind: IssuerKind;
  readonly issuer: string;
  /** Each must be there with exactly this value. */
  readonly claims: Readonly<Record<string, string>>;
  readonly label: string;
  readonly createdAt: string;
}

/** What an operator does to a registry without going through HTTP. Every change is durable and audited when it returns. */
export interface Admin extends PolicyDocuments, People, MirrorDeclarations, Notices {
  /** Throws KL_REGISTRY_NAMESPACE_EXISTS, KL_REGISTRY_NAME_INVALID, or the policy parser's codes. */
  createNamespace(options: {
    name: string;
    visibility?: Visibility;
    /** Needed for kernels. */
    policy?: string;
    kind?: NamespaceKind;
    deletion?: Namespace["deletion"];
    review?: Namespace["review"];
  }): Promise<Namespace>;
  /** A new policy does not touch versions that are published; later publishes meet it. */
  updateNamespace(options: {
    namespace: string;
    policy?: string;
    visibility?: Visibility;
    deletion?: Namespace["deletion"];
    /** What waits already goes on waiting. */
    review?: Namespace["review"];
  }): Promise<Namespace>;
  /** Only the policy. */
  setPolicy(options: { namespace: string; policy: string }): Promise<Namespace>;
  getNamespace(name: string): Promise<Namespace | undefined>;
  listNamespaces(): Promise<Namespace[]>;
  /** The token itself is returned once and never stored. Throws KL_REGISTRY_NAMESPACE_UNKNOWN. */
  createToken(options: {
    namespace: string;
    role: Role;
    package?: string;
    label?: string;
    expiresAt?: Date;
  }): Promise<TokenInfo & { token: string }>;
  listTokens(namespace: string): Promise<TokenInfo[]>;
  /** Takes effect with the next request. Returns whether there was such a token. */
  revokeToken(id: string): Promise<boolean>;
  /** Throws KL_REGISTRY_IDENTITY_CONFIG for claims that would let in more than was meant. */
  addTrustedPublisher(options: {
    namespace: string;
    package?: string;
    kind?: IssuerKind;
    issuer: string;
    claims: Readonly<Record<string, string>>;
    label?: string;
  }): Promise<TrustedPublisher>;
  listTrustedPublishers(namespace: string): Promise<TrustedPublisher[]>;
  removeTrustedPublisher(id: string): Promise<boolean>;
  /** Throws KL_REGISTRY_VERSION_UNKNOWN. */
  setVersionState(options: {
    repository: string;
    version: string;
    state: PublishedState;
    reason?: string;
  }): Promise<void>;
  auditAfter(after: number, limit: number): Promise<AuditRow[]>;
  /** Newest first, before `before` (0: from the head), of those whose parts begin so. */
  auditPage(filter: AuditFilter, before: number, limit: number): Promise<AuditRow[]>;
  auditHead(): Promise<AuditHead>;
  verifyAudit(): Promise<{ head: AuditHead; broken: number | null }>;
  close(): Promise<void>;
}

export async function openAdmin(options: DataOptions & { now?: () => Date }): Promise<Admin> {
  return createAdmin(await openRecords(options), options.now ?? (() => new Date()));
}

/** Package and namespace segments, as in `namespace/name`. */
export const segmentPattern = /^[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

export function createAdmin(records: Records, now: () => Date, actor = "operator"): Admin {
  const known = async (name: string) =>
    (await records.namespace(name)) ??
    fail("KL_REGISTRY_NAMESPACE_UNKNOWN", `There is no namespace "${name}".`, {
      remedy: "Create it with `kernlock registry namespace`.",
      details: { namespace: name },
    });
  const audit = (action: string, subject: string, details: Record<string, unknown> = {}) => ({
    at: now().toISOString(),
    actor,
    action,
    subject,
    details,
  });
  const knownPackage = (namespace: string, name: string | undefined): string | null => {
    if (name === undefined) return null;
    if (isPackageName(name) && name.startsWith(`${namespace}/`)) return name;
    return fail("KL_REGISTRY_NAME_INVALID", `"${name}" is not a package of namespace "${namespace}".`, {
      remedy: "Name it as namespace/name.",
    });
  };
  const admin: Admin = {
    ...createPeople(records, now, audit),
    ...mirrorDeclarations(records, now, audit, known),
    ...createNotices(records, now, actor),
    ...policyDocuments(records, now, actor, known),
    async createNamespace({ name, visibility = "public", policy = "", kind = "kernels", deletion, review = "none" }) {
      if (!segmentPattern.test(name) || name.length > 64) {
        fail("KL_REGISTRY_NAME_INVALID", `"${name}" is not a namespace name.`, {
          remedy: "Use lower case letters and digits, with single dots, dashes or underscores between them.",
        });
      }
      if (kind === "kernels") parsePolicy(policy);
      const row: Namespace = {
        name,
        visibility,
        policy,
        kind,
        deletion: deletion ?? (kind === "kernels" ? "never" : "allowed"),
        review,
        createdAt: now().toISOString(),
      };
      const details = { visibility, kind, deletion: row.deletion, review };
      if (!(await records.addNamespace(row, audit("namespace.create", name, details)))) {
        fail("KL_REGISTRY_NAMESPACE_EXISTS", `The namespace "${name}" exists.`, { remedy: "Choose another name." });
      }
      return row;
    },
    async updateNamespace({ namespace, ...changes }) {
      const before = await known(namespace);
      if (changes.policy !== undefined && before.kind === "kernels") parsePolicy(changes.policy);
      const after = { ...before, ...changes };
      await records.updateNamespace(
        after,
        audit("namespace.update", namespace, {
          visibility: after.visibility,
          deletion: after.deletion,
          review: after.review,
          policy_changed: after.policy !== before.policy,
        }),
      );
      return after;
    },
    setPolicy: (options) => admin.updateNamespace(options),
    getNamespace: (name) => records.namespace(name),
    listNamespaces: () => records.namespaces(),
    async createToken({ namespace, role, label = "", expiresAt, ...rest }) {
      if (namespace !== "*") await known(namespace);
      const token = newToken();
      const info: TokenInfo = {
        id: newId(),
        namespace,
        package: knownPackage(namespace, rest.package),
        role,
        label,
        identity: null,
        createdAt: now().toISOString(),
        expiresAt: expiresAt?.toISOString() ?? null,
      };
      const details = { namespace, package: info.package, role, label, expires_at: info.expiresAt };
      await records.addToken(info, hashToken(token), audit("token.create", info.id, details));
      return { ...info, token };
    },
    async listTokens(namespace) {
      if (namespace !== "*") await known(namespace);
      return records.tokens(namespace);
    },
    revokeToken: (id) => records.removeToken(id, audit("token.revoke", id)),
    async addTrustedPublisher({ namespace, kind = "generic", issuer, claims, label = "", ...rest }) {
      await known(namespace);
      checkPublisherClaims(kind, issuer, claims);
      const row: TrustedPublisher = {
        id: newId(),
        namespace,
        package: knownPackage(namespace, rest.package),
        kind,
        issuer,
        claims,
        label,
        createdAt: now().toISOString(),
      };
      const details = { namespace, package: row.package, kind, issuer, claims };
      await records.addTrustedPublisher(row, audit("trusted-publisher.add", row.id, details));
      return row;
    },
    async listTrustedPublishers(namespace) {
      await known(namespace);
      return records.trustedPublishers({ namespace });
    },
    removeTrustedPublisher: (id) => records.removeTrustedPublisher(id, audit("trusted-publisher.remove", id)),
    async setVersionState({ repository, version, state, reason }) {
      const entry = audit(`version.${state}`, `${repository}@${version}`, { reason: reason ?? null });
      const target = { repository, version, state, reason: reason ?? null, by: actor, at: entry.at };
      if (!(await records.setVersionState(target, latestOf, entry))) {
        fail("KL_REGISTRY_VERSION_UNKNOWN", `There is no ${repository} ${version}.`, {
          remedy: "List the versions with `kernlock info`.",
        });
      }
    },
    auditAfter: (after, limit) => records.auditAfter(after, limit),
    auditPage: (filter, before, limit) => records.auditPage(filter, before, limit),
    auditHead: () => records.auditHead(),
    verifyAudit: () => records.verifyAudit(),
    close: () => records.close(),
  };
  return admin;
}

export function newId(): string {
  return randomBytes(6).toString("hex");
}
