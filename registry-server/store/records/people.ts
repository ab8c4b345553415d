/** Accounts of the registry itself, who has which role where, sessions of the pages, and sign-ins on their way. */
import type { Role } from "../../admin.ts";
import type { Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

/** An identity that has a role: a person, or everybody who has a claim. */
export interface Member {
  readonly id: string;
  /** `*` is every namespace. */
  readonly namespace: string;
  readonly role: Role;
  /** `local` for an account of this registry, else the issuer of the identity. */
  readonly issuer: string;
  /** Each must be there with exactly this value, or hold it in its list. */
  readonly claims: Readonly<Record<string, string>>;
  readonly label: string;
  readonly createdAt: string;
}

export interface AccountRow {
  readonly name: string;
  readonly password: string | null;
  readonly setupHash: Buffer | null;
  readonly setupUntil: string | null;
  readonly createdAt: string;
}

export interface SessionRow {
  readonly issuer: string;
  readonly subject: string;
  readonly name: string;
  /** JSON of the claims that member rules may ask about. */
  readonly claims: string;
  readonly createdAt: string;
  readonly seenAt: string;
  readonly expiresAt: string;
}

export interface SignInRow {
  readonly nonce: string;
  readonly verifier: string;
  readonly returnTo: string;
  readonly expiresAt: string;
}

const memberColumns = `id, namespace, role, issuer, claims, label, created_at as "createdAt"`;
const accountColumns = `name, password, setup_hash as "setupHash", setup_until as "setupUntil", created_at as "createdAt"`;
const sessionColumns = `issuer, subject, name, claims, created_at as "createdAt", seen_at as "seenAt", expires_at as "expiresAt"`;

type MemberRow = Omit<Member, "claims"> & { readonly claims: string };

export function peopleRecords(sql: Sql) {
  /** True when one row changed; only then the entry is written. */
  const change = (entry: AuditEntry, text: string, ...values: (string | number | null | Buffer)[]) =>
    sql.transaction(async (queries) => {
      const changed = (await queries.run(text, ...values)) === 1;
      if (changed) await appendAudit(queries, entry);
      return changed;
    });
  const member = (row: MemberRow): Member => ({ ...row, claims: JSON.parse(row.claims) });
  return {
    addMember: (row: Member, audit: AuditEntry) =>
      change(
        audit,
        "insert into member (id, namespace, role, issuer, claims, label, created_at) values (?, ?, ?, ?, ?, ?, ?)",
        row.id,
        row.namespace,
        row.role,
        row.issuer,
        JSON.stringify(row.claims),
        row.label,
        row.createdAt,
      ),
    async members(by: { readonly issuer: string } | { readonly namespace: string }): Promise<Member[]> {
      const [column, value] = "issuer" in by ? ["issuer", by.issuer] : ["namespace", by.namespace];
      const text = `select ${memberColumns} from member where ${column} = ? order by created_at, id`;
      return (await sql.all<MemberRow>(text, value)).map(member);
    },
    removeMember: (id: string, audit: AuditEntry) => change(audit, "delete from member where id = ?", id),

    account: (name: string) => sql.one<AccountRow>(`select ${accountColumns} from account where name = ?`, name),
    accounts: () => sql.all<AccountRow>(`select ${accountColumns} from account order by name`),
    hasAccounts: async () => (await sql.one("select name from account limit 1")) !== undefined,
    /** False when the name is taken. */
    addAccount: (row: AccountRow, audit: AuditEntry) =>
      change(
        audit,
        `insert into account (name, password, setup_hash, setup_until, created_at) values (?, ?, ?, ?, ?)
         on conflict do nothing`,
        row.name,
        row.password,
        row.setupHash,
        row.setupUntil,
        row.createdAt,
      ),
    /** Ends the account's sessions. With `setupHash`, only while that code is the account's and has not run out. */
    setPassword: (
      name: string,
      password: string,
      once: { readonly setupHash: Buffer; readonly now: string } | undefined,
      audit: AuditEntry,
    ) =>
      sql.transaction(async (queries) => {
        const [condition, values] =
          once === undefined ? ["", []] : ["and setup_hash = ? and setup_until > ?", [once.setupHash, once.now]];
        const changed = await queries.run(
          `update account set password = ?, setup_hash = null, setup_until = null where name = ? ${condition}`,
          password,
          name,
          ...values,
        );
        if (changed !== 1) return false;
        await queries.run("delete from session where issuer = 'local' and subject = ?", name);
        await appendAudit(queries, audit);
        return true;
      }),
    setSetupCode: (name: string, setupHash: Buffer, setupUntil: string, audit: AuditEntry) =>
      change(audit, "update account set setup_hash = ?, setup_until = ? where name = ?", setupHash, setupUntil, name),
    /** With its sessions and its roles. */
    removeAccount: (name: string, claims: Member["claims"], audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        if ((await queries.run("delete from account where name = ?", name)) !== 1) return false;
        await queries.run("delete from session where issuer = 'local' and subject = ?", name);
        await queries.run("delete from member where issuer = 'local' and claims = ?", JSON.stringify(claims));
        await appendAudit(queries, audit);
        return true;
      }),

    session: (hash: Buffer) => sql.one<SessionRow>(`select ${sessionColumns} from session where hash = ?`, hash),
    /** Takes the place of `instead`, the session that the browser had before. */
    addSession: (hash: Buffer, row: SessionRow, instead: Buffer | undefined, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        if (instead !== undefined) await queries.run("delete from session where hash = ?", instead);
        await queries.run(
          `insert into session (hash, issuer, subject, name, claims, created_at, seen_at, expires_at)
           values (?, ?, ?, ?, ?, ?, ?, ?)`,
          hash,
          row.issuer,
          row.subject,
          row.name,
          row.claims,
          row.createdAt,
          row.seenAt,
          row.expiresAt,
        );
        await appendAudit(queries, audit);
      }),
    touchSession: (hash: Buffer, seenAt: string) =>
      sql.run("update session set seen_at = ? where hash = ?", seenAt, hash),
    removeSession: (hash: Buffer, audit: AuditEntry) => change(audit, "delete from session where hash = ?", hash),

    addSignIn: (stateHash: Buffer, browserHash: Buffer, row: SignInRow) =>
      sql.run(
        `insert into sign_in (state_hash, browser_hash, nonce, verifier, return_to, expires_at)
         values (?, ?, ?, ?, ?, ?)`,
        stateHash,
        browserHash,
        row.nonce,
        row.verifier,
        row.returnTo,
        row.expiresAt,
      ),
    /** Once; undefined for a state that is unknown, of another browser, or was taken before. */
    takeSignIn: (stateHash: Buffer, browserHash: Buffer) =>
      sql.transaction(async (queries) => {
        const row = await queries.one<SignInRow>(
          `select nonce, verifier, return_to as "returnTo", expires_at as "expiresAt" from sign_in
           where state_hash = ? and browser_hash = ?`,
          stateHash,
          browserHash,
        );
        if (row !== undefined) await queries.run("delete from sign_in where state_hash = ?", stateHash);
        return row;
      }),
    /** Sessions and sign-ins that nobody can use any more. */
    forgetSessions: (now: string, idleSince: string) =>
      sql.transaction(async (queries) => {
        await queries.run("delete from sign_in where expires_at < ?", now);
        return queries.run("delete from session where expires_at < ? or seen_at < ?", now, idleSince);
      }),
  };
}
