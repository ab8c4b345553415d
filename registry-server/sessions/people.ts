/** Members and accounts: what the commands `kernlock registry member|account` do, and the pages of a namespace. */
import { randomBytes } from "node:crypto";
import { fail } from "@kernlock/kernels/format";
import { newId, type Role } from "../admin.ts";
import { type Claims, isIssuer } from "../oidc/claims.ts";
import type { AuditEntry, Member, Records } from "../store/records.ts";
import { hashSecret } from "./cookies.ts";
import { checkPassword, hashPassword } from "./passwords.ts";

export interface Account {
  readonly name: string;
  /** Whether a password was set. */
  readonly ready: boolean;
  readonly createdAt: string;
}

export interface People {
  /**
   * Gives an identity a role. `issuer` is `local` (then `claims` is `{ sub: <account> }`) or an issuer's address.
   * Throws KL_REGISTRY_NAMESPACE_UNKNOWN, KL_REGISTRY_ACCOUNT_UNKNOWN, KL_REGISTRY_IDENTITY_CONFIG.
   */
  addMember(options: {
    namespace: string;
    role: Role;
    issuer: string;
    claims: Readonly<Record<string, string>>;
    label?: string;
  }): Promise<Member>;
  listMembers(namespace: string): Promise<Member[]>;
  /** Takes effect with the next request. Returns whether there was such a member. */
  removeMember(id: string): Promise<boolean>;
  /**
   * An account of the registry itself, with a role. Without a password it has a setup code, good once and for a day.
   * Throws KL_REGISTRY_ACCOUNT_EXISTS, KL_REGISTRY_NAME_INVALID, KL_REGISTRY_PASSWORD_WEAK.
   */
  createAccount(options: {
    name: string;
    /** `*` for all. */
    namespace: string;
    role: Role;
    password?: string;
  }): Promise<Account & { readonly setupCode: string | null }>;
  listAccounts(): Promise<Account[]>;
  /** Sets a password, which ends the account's sessions; or gives a new setup code. KL_REGISTRY_ACCOUNT_UNKNOWN. */
  resetAccount(options: { name: string; password?: string }): Promise<{ readonly setupCode: string | null }>;
  /** With its roles and sessions. */
  removeAccount(name: string): Promise<boolean>;
}

const setupLifetimeMs = 24 * 3600_000;
/** What people can change about themselves at most issuers: nothing to give a role for. */
const changeable = ["name", "nickname", "preferred_username", "given_name", "family_name", "picture", "profile"];

export function createPeople(
  records: Records,
  now: () => Date,
  audit: (action: string, subject: string, details?: Record<string, unknown>) => AuditEntry,
): People {
  const knownNamespace = async (namespace: string) => {
    if (namespace === "*" || (await records.namespace(namespace)) !== undefined) return;
    fail("KL_REGISTRY_NAMESPACE_UNKNOWN", `There is no namespace "${namespace}".`, {
      remedy: "Create it with `kernlock registry namespace`.",
      details: { namespace },
    });
  };
  const setup = () => {
    const code = `kls-${randomBytes(20).toString("base64url")}`;
    const until = new Date(now().getTime() + setupLifetimeMs).toISOString();
    return { code, hash: hashSecret(code), until };
  };
  const people: People = {
    async addMember({ namespace, role, issuer, claims, label = "" }) {
      await knownNamespace(namespace);
      if (issuer === "local") {
        const { sub, ...others } = claims;
        if (sub === undefined || Object.keys(others).length > 0 || (await records.account(sub)) === undefined) {
          return accountUnknown(sub ?? "");
        }
      } else checkMemberClaims(issuer, claims);
      const row: Member = { id: newId(), namespace, role, issuer, claims, label, createdAt: now().toISOString() };
      await records.addMember(row, audit("member.add", row.id, { namespace, role, issuer, claims }));
      return row;
    },
    async listMembers(namespace) {
      await knownNamespace(namespace);
      return records.members({ namespace });
    },
    removeMember: (id) => records.removeMember(id, audit("member.remove", id)),
    async createAccount({ name, namespace, role, password }) {
      if (!/^[a-z0-9]+(?:[._-][a-z0-9]+)*$/.test(name) || name.length > 64) {
        fail("KL_REGISTRY_NAME_INVALID", `"${name}" is not an account's name.`, {
          remedy: "Use lower case letters and digits, with single dots, dashes or underscores between them.",
        });
      }
      await knownNamespace(namespace);
      if (password !== undefined) checkPassword(password);
      const code = password === undefined ? setup() : undefined;
      const row = {
        name,
        password: password === undefined ? null : await hashPassword(password),
        setupHash: code?.hash ?? null,
        setupUntil: code?.until ?? null,
        createdAt: now().toISOString(),
      };
      if (!(await records.addAccount(row, audit("account.create", name)))) {
        fail("KL_REGISTRY_ACCOUNT_EXISTS", `There is an account "${name}" already.`, {
          remedy: "Reset its password with `kernlock registry account reset`, or choose another name.",
        });
      }
      await people.addMember({ namespace, role, issuer: "local", claims: { sub: name } });
      return { ...accountOf(row), setupCode: code?.code ?? null };
    },
    listAccounts: async () => (await records.accounts()).map(accountOf),
    async resetAccount({ name, password }) {
      if (password !== undefined) checkPassword(password);
      const entry = audit("account.reset", name);
      const code = password === undefined ? setup() : undefined;
      const done =
        code === undefined
          ? await records.setPassword(name, await hashPassword(password!), undefined, entry)
          : await records.setSetupCode(name, code.hash, code.until, entry);
      if (!done) accountUnknown(name);
      return { setupCode: code?.code ?? null };
    },
    removeAccount: (name) => records.removeAccount(name, { sub: name }, audit("account.remove", name)),
  };
  return people;
}

/** Claims are kept as they were when somebody signed in. */
export function isMember(rule: Pick<Member, "claims">, claims: Claims): boolean {
  return Object.entries(rule.claims).every(([name, wanted]) => {
    if (!Object.hasOwn(claims, name)) return false;
    // An address that nobody proved to own says nothing.
    if (name === "email" && claims.email_verified !== true) return false;
    const given = claims[name];
    return given === wanted || (Array.isArray(given) && given.includes(wanted));
  });
}

function checkMemberClaims(issuer: string, claims: Readonly<Record<string, string>>): void {
  const refuse = (message: string, remedy: string): never => fail("KL_REGISTRY_IDENTITY_CONFIG", message, { remedy });
  if (!isIssuer(issuer)) refuse(`"${issuer}" is not an https address.`, "Give the issuer as it stands in its tokens.");
  if (Object.keys(claims).length === 0) refuse("No claim is named.", "Name one, such as sub, email or groups.");
  for (const [name, value] of Object.entries(claims)) {
    if (changeable.includes(name)) {
      refuse(`People can change their "${name}" themselves.`, "Name sub, a verified email, or a group.");
    }
    if (value === "" || value.length > 255 || /[*?]/.test(value)) {
      refuse(
        `The claim "${name}" has no exact value.`,
        "Claims are compared letter by letter; wildcards are not taken.",
      );
    }
  }
}

function accountOf(row: { name: string; password: string | null; createdAt: string }): Account {
  return { name: row.name, ready: row.password !== null, createdAt: row.createdAt };
}

function accountUnknown(name: string): never {
  return fail("KL_REGISTRY_ACCOUNT_UNKNOWN", `There is no account "${name}".`, {
    remedy: "Make it with `kernlock registry account create`.",
  });
}
