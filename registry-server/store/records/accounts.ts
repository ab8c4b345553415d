/** Namespaces, tokens, and the outside identities that may be exchanged for tokens. */
import type { Namespace, TokenInfo, TrustedPublisher } from "../../admin.ts";
import type { Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

const namespaceColumns = `name, visibility, policy, kind, deletion, review, created_at as "createdAt"`;
const tokenColumns = `id, namespace, package, role, label, identity, created_at as "createdAt", expires_at as "expiresAt"`;
const publisherColumns = `id, namespace, package, kind, issuer, claims, label, created_at as "createdAt"`;
// What every request asks: one string each, so that nothing is spelled anew.
const oneNamespace = `select ${namespaceColumns} from namespace where name = ?`;
const tokenByHash = `select ${tokenColumns} from token where hash = ?`;

type PublisherRow = Omit<TrustedPublisher, "claims"> & { readonly claims: string };

export function accountRecords(sql: Sql) {
  const change = (entry: AuditEntry, text: string, ...values: (string | number | null | Buffer)[]) =>
    sql.transaction(async (queries) => {
      const changed = (await queries.run(text, ...values)) === 1;
      if (changed) await appendAudit(queries, entry);
      return changed;
    });
  const publisher = (row: PublisherRow): TrustedPublisher => ({ ...row, claims: JSON.parse(row.claims) });
  return {
    namespace: (name: string) => sql.one<Namespace>(oneNamespace, name),
    namespaces: () => sql.all<Namespace>(`select ${namespaceColumns} from namespace order by name`),
    /** False when the name is taken. */
    addNamespace: (row: Namespace, audit: AuditEntry) =>
      change(
        audit,
        `insert into namespace (name, visibility, policy, kind, deletion, review, created_at) values (?, ?, ?, ?, ?, ?, ?)
         on conflict do nothing`,
        row.name,
        row.visibility,
        row.policy,
        row.kind,
        row.deletion,
        row.review,
        row.createdAt,
      ),
    updateNamespace: (
      row: Pick<Namespace, "name" | "policy" | "visibility" | "deletion" | "review">,
      audit: AuditEntry,
    ) =>
      change(
        audit,
        "update namespace set policy = ?, visibility = ?, deletion = ?, review = ? where name = ?",
        row.policy,
        row.visibility,
        row.deletion,
        row.review,
        row.name,
      ),

    addToken: (row: TokenInfo, hash: Buffer, audit: AuditEntry) =>
      change(
        audit,
        `insert into token (id, hash, namespace, package, role, label, identity, created_at, expires_at)
         values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
        row.id,
        hash,
        row.namespace,
        row.package,
        row.role,
        row.label,
        row.identity,
        row.createdAt,
        row.expiresAt,
      ),
    tokenByHash: (hash: Buffer) => sql.one<TokenInfo>(tokenByHash, hash),
    tokenById: (id: string) => sql.one<TokenInfo>(`select ${tokenColumns} from token where id = ?`, id),
    tokens: (namespace: string) =>
      sql.all<TokenInfo>(`select ${tokenColumns} from token where namespace = ? order by created_at, id`, namespace),
    removeToken: (id: string, audit: AuditEntry) => change(audit, "delete from token where id = ?", id),
    /** Tokens that nobody can use any more, and identities that cannot come back. */
    forgetExpired: (now: string) =>
      sql.transaction(async (queries) => {
        await queries.run("delete from used_identity where expires_at < ?", now);
        return queries.run("delete from token where identity is not null and expires_at < ?", now);
      }),

    addTrustedPublisher: (row: TrustedPublisher, audit: AuditEntry) =>
      change(
        audit,
        `insert into trusted_publisher (id, namespace, package, kind, issuer, claims, label, created_at)
         values (?, ?, ?, ?, ?, ?, ?, ?)`,
        row.id,
        row.namespace,
        row.package,
        row.kind,
        row.issuer,
        JSON.stringify(row.claims),
        row.label,
        row.createdAt,
      ),
    async trustedPublishers(by: { issuer: string } | { namespace: string }): Promise<TrustedPublisher[]> {
      const [column, value] = "issuer" in by ? ["issuer", by.issuer] : ["namespace", by.namespace];
      const rows = await sql.all<PublisherRow>(
        `select ${publisherColumns} from trusted_publisher where ${column} = ? order by created_at, id`,
        value,
      );
      return rows.map(publisher);
    },
    removeTrustedPublisher: (id: string, audit: AuditEntry) =>
      change(audit, "delete from trusted_publisher where id = ?", id),
    /** Takes an outside identity token's id out of circulation. False when it was used before. */
    useIdentity: async (id: string, expiresAt: string) =>
      (await sql.run(
        "insert into used_identity (id, expires_at) values (?, ?) on conflict do nothing",
        id,
        expiresAt,
      )) === 1,
  };
}
