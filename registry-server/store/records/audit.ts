/**
 * The audit log: every change, in the transaction that made it. A row's hash covers the row and the hash before it, so
 * whoever wrote down a head can tell later that nothing before it was edited or removed.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "@kernlock/kernels/format";
import type { Queries, Sql } from "../sql.ts";

export interface AuditEntry {
  readonly at: string;
  /** `token:<id>`, `operator`, or `registry` for what it does by itself. */
  readonly actor: string;
  /** e.g. `version.publish` */
  readonly action: string;
  /** What was changed: a namespace, `namespace/name`, `namespace/name@version`, a token's id. */
  readonly subject: string;
  readonly details: Readonly<Record<string, unknown>>;
}

export interface AuditRow extends Omit<AuditEntry, "details"> {
  readonly seq: number;
  /** Canonical JSON. */
  readonly details: string;
  readonly previous: string;
  readonly hash: string;
}

/** Empty texts fit everything. */
export interface AuditFilter {
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
}

export interface AuditHead {
  readonly seq: number;
  readonly hash: string;
}

/** What the first row stands on. */
const origin = "0".repeat(64);
const columns = "seq, at, actor, action, subject, details, previous, hash";

export async function appendAudit(queries: Queries, entry: AuditEntry): Promise<void> {
  const head = await headOf(queries);
  const row = {
    ...entry,
    details: canonicalJson(entry.details),
    seq: head.seq + 1,
    previous: head.hash,
  };
  await queries.run(
    `insert into audit (${columns}) values (?, ?, ?, ?, ?, ?, ?, ?)`,
    row.seq,
    row.at,
    row.actor,
    row.action,
    row.subject,
    row.details,
    row.previous,
    hashOf(row),
  );
}

export function auditRecords(sql: Sql) {
  return {
    /** Oldest first, after `after`. */
    auditAfter: (after: number, limit: number) =>
      sql.all<AuditRow>(`select ${columns} from audit where seq > ? order by seq limit ?`, after, limit),
    /** Newest first, before `before` (0: from the head); filters are the beginnings of what an entry has. */
    auditPage: (filter: AuditFilter, before: number, limit: number) =>
      sql.all<AuditRow>(
        `select ${columns} from audit where (? = 0 or seq < ?) and substr(actor, 1, length(?)) = ?
           and substr(action, 1, length(?)) = ? and substr(subject, 1, length(?)) = ? order by seq desc limit ?`,
        before,
        before,
        filter.actor,
        filter.actor,
        filter.action,
        filter.action,
        filter.subject,
        filter.subject,
        limit,
      ),
    /** Who did something to this first. */
    auditActor: async (action: string, subject: string) =>
      (
        await sql.one<{ actor: string }>(
          "select actor from audit where action = ? and subject = ? order by seq limit 1",
          action,
          subject,
        )
      )?.actor,
    auditHead: () => headOf(sql),
    appendAudit: (entry: AuditEntry) => sql.transaction((queries) => appendAudit(queries, entry)),
    /** Reads the whole chain; `broken` is the first row that does not fit. */
    async verifyAudit(): Promise<{ head: AuditHead; broken: number | null }> {
      let head: AuditHead = { seq: 0, hash: origin };
      for (;;) {
        const rows = await sql.all<AuditRow>(
          `select ${columns} from audit where seq > ? order by seq limit 1000`,
          head.seq,
        );
        if (rows.length === 0) return { head, broken: null };
        for (const row of rows) {
          if (row.seq !== head.seq + 1 || row.previous !== head.hash || row.hash !== hashOf(row)) {
            return { head, broken: head.seq + 1 };
          }
          head = { seq: row.seq, hash: row.hash };
        }
      }
    },
  };
}

async function headOf(queries: Queries): Promise<AuditHead> {
  const row = await queries.one<AuditHead>("select seq, hash from audit order by seq desc limit 1");
  return row ?? { seq: 0, hash: origin };
}

function hashOf(row: Omit<AuditRow, "hash">): string {
  const { seq, at, actor, action, subject, details, previous } = row;
  return createHash("sha256")
    .update(canonicalJson({ seq, at, actor, action, subject, details, previous }))
    .digest("hex");
}
