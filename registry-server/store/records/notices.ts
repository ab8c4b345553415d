/** Advisories and revocations that were filed here, and the signed feeds that are served. */
import type { Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

export type NoticeKind = "advisory" | "revocation";

export interface NoticeRow {
  readonly kind: NoticeKind;
  readonly id: string;
  /** JSON: an OSV record, or an entry of a feed of revocations. */
  readonly body: string;
  readonly filedAt: string;
  readonly filedBy: string;
  readonly withdrawnAt: string | null;
}

export interface ServedFeed {
  /** As policies name it. */
  readonly id: string;
  readonly kind: "advisories" | "revocations";
  /** JSON list of public keys (PEM). */
  readonly keys: string;
  readonly createdAt: string;
  /** Null until one was brought. */
  readonly sequence: number | null;
  readonly issued: string | null;
  readonly uploadedAt: string | null;
}

const columns = `kind, id, body, filed_at as "filedAt", filed_by as "filedBy", withdrawn_at as "withdrawnAt"`;
const feedColumns = `id, kind, keys, created_at as "createdAt", sequence, issued, uploaded_at as "uploadedAt"`;

export function noticeRecords(sql: Sql) {
  return {
    notice: (kind: NoticeKind, id: string) =>
      sql.one<NoticeRow>(`select ${columns} from notice where kind = ? and id = ?`, kind, id),
    /** Oldest first, withdrawn ones among them. */
    notices: (kind: NoticeKind) =>
      sql.all<NoticeRow>(`select ${columns} from notice where kind = ? order by filed_at, id limit 10000`, kind),
    /** Advisories that name a package. */
    advisoriesOf: (repository: string) =>
      sql.all<NoticeRow>(
        `select ${columns} from notice n where kind = 'advisory' and exists
           (select 1 from notice_package p where p.repository = ? and p.kind = n.kind and p.id = n.id)
         order by filed_at desc, id limit 1000`,
        repository,
      ),
    /**
     * Files it, or puts it in the place of `before`, the body that whoever files it has seen (null: there was none).
     * False when somebody else was faster.
     */
    putNotice: (row: NoticeRow, before: string | null, packages: readonly string[], audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const changed =
          before === null
            ? await queries.run(
                `insert into notice (kind, id, body, filed_at, filed_by, withdrawn_at) values (?, ?, ?, ?, ?, ?)
                 on conflict do nothing`,
                row.kind,
                row.id,
                row.body,
                row.filedAt,
                row.filedBy,
                row.withdrawnAt,
              )
            : await queries.run(
                "update notice set body = ?, withdrawn_at = ? where kind = ? and id = ? and body = ?",
                row.body,
                row.withdrawnAt,
                row.kind,
                row.id,
                before,
              );
        if (changed === 0) return false;
        await queries.run("delete from notice_package where kind = ? and id = ?", row.kind, row.id);
        for (const repository of packages) {
          await queries.run(
            "insert into notice_package (repository, kind, id) values (?, ?, ?) on conflict do nothing",
            repository,
            row.kind,
            row.id,
          );
        }
        await appendAudit(queries, audit);
        return true;
      }),

    servedFeed: (id: string) => sql.one<ServedFeed>(`select ${feedColumns} from feed where id = ?`, id),
    servedFeeds: () => sql.all<ServedFeed>(`select ${feedColumns} from feed order by id`),
    feedBundle: async (id: string) =>
      (await sql.one<{ bundle: Buffer | null }>("select bundle from feed where id = ?", id))?.bundle ?? undefined,
    /** False when there is one of that name. */
    addServedFeed: (row: Pick<ServedFeed, "id" | "kind" | "keys" | "createdAt">, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const added = await queries.run(
          "insert into feed (id, kind, keys, created_at) values (?, ?, ?, ?) on conflict do nothing",
          row.id,
          row.kind,
          row.keys,
          row.createdAt,
        );
        if (added === 1) await appendAudit(queries, audit);
        return added === 1;
      }),
    /** Other keys may sign from then on; what is served stays. False when there is no such feed. */
    setFeedKeys: (id: string, keys: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const changed = await queries.run("update feed set keys = ? where id = ?", keys, id);
        if (changed === 1) await appendAudit(queries, audit);
        return changed === 1;
      }),
    /** False when its number is not above the one that is served. */
    putFeedBundle: (
      feed: { id: string; sequence: number; issued: string; bundle: Buffer; at: string; by: string },
      audit: AuditEntry,
    ) =>
      sql.transaction(async (queries) => {
        const changed = await queries.run(
          `update feed set sequence = ?, issued = ?, bundle = ?, uploaded_at = ?, uploaded_by = ?
           where id = ? and (sequence is null or sequence < ?)`,
          feed.sequence,
          feed.issued,
          feed.bundle,
          feed.at,
          feed.by,
          feed.id,
          feed.sequence,
        );
        if (changed === 1) await appendAudit(queries, audit);
        return changed === 1;
      }),
  };
}
