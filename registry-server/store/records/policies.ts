/** What policies name and do not hold: feeds, exceptions and break-glass orders. `*` is the operator's policy. */
import { canonicalJson } from "@kernlock/kernels/format";
import type { Queries, Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

export interface FeedRow {
  readonly namespace: string;
  /** As in the policy. */
  readonly id: string;
  /** Where it is refreshed from; null where the operator brings it. */
  readonly url: string | null;
  /** Of the newest copy that held. */
  readonly digest: string | null;
  /** Null for a list of records that nobody signs. */
  readonly sequence: number | null;
  readonly takenAt: string | null;
  readonly triedAt: string | null;
  /** Why the last look brought nothing. */
  readonly problem: string | null;
}

export interface FeedDocument extends FeedRow {
  readonly document: Buffer | null;
}

export interface ExceptionRow {
  readonly namespace: string;
  readonly digest: string;
  readonly bundle: Buffer;
  readonly addedAt: string;
}

const feedColumns = `namespace, id, url, digest, sequence, taken_at as "takenAt", tried_at as "triedAt", problem`;

export function policyRecords(sql: Sql) {
  const feed = async (queries: Queries, namespace: string, id: string) =>
    queries.one<FeedRow>(`select ${feedColumns} from policy_feed where namespace = ? and id = ?`, namespace, id);
  return {
    /** Of every namespace, where none is named. */
    feeds: (namespace?: string) =>
      sql.all<FeedRow>(
        `select ${feedColumns} from policy_feed where namespace = ? or ? = '' order by namespace, id`,
        namespace ?? "",
        namespace ?? "",
      ),
    feedDocuments: (namespace: string) =>
      sql.all<FeedDocument>(`select ${feedColumns}, document from policy_feed where namespace = ?`, namespace),
    /**
     * Puts a copy in the place of the one before, unless a newer number is there by now: then "older", and nothing
     * changes. Where from it comes is set too, unless `url` is undefined.
     */
    putFeed: (
      copy: {
        readonly namespace: string;
        readonly id: string;
        readonly url?: string | null;
        readonly document: Uint8Array;
        readonly digest: string;
        readonly sequence: number | null;
        readonly at: string;
      },
      audit: AuditEntry,
    ): Promise<"taken" | "same" | "older"> =>
      sql.transaction(async (queries) => {
        const { namespace, id, digest, sequence, at } = copy;
        const before = await feed(queries, namespace, id);
        if ((before?.sequence ?? 0) > (sequence ?? 0)) return "older";
        const url = copy.url === undefined ? (before?.url ?? null) : copy.url;
        const same = before?.digest === digest && before.url === url;
        await queries.run(
          `insert into policy_feed (namespace, id, url, document, digest, sequence, taken_at, tried_at)
           values (?, ?, ?, ?, ?, ?, ?, ?)
           on conflict (namespace, id) do update set url = excluded.url, document = excluded.document,
             digest = excluded.digest, sequence = excluded.sequence, taken_at = excluded.taken_at,
             tried_at = excluded.tried_at, problem = null`,
          namespace,
          id,
          url,
          Buffer.from(copy.document),
          digest,
          sequence,
          same ? before.takenAt : at,
          at,
        );
        if (!same) await appendAudit(queries, audit);
        return same ? "same" : "taken";
      }),
    noteFeedProblem: (namespace: string, id: string, problem: string, at: string) =>
      sql.run(
        "update policy_feed set problem = ?, tried_at = ? where namespace = ? and id = ?",
        problem,
        at,
        namespace,
        id,
      ),
    /** Forgets the feed and the newest number that was seen of it. */
    removeFeed: (namespace: string, id: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const gone = await queries.run("delete from policy_feed where namespace = ? and id = ?", namespace, id);
        if (gone === 1) await appendAudit(queries, audit);
        return gone === 1;
      }),

    exceptions: (namespace: string) =>
      sql.all<ExceptionRow>(
        `select namespace, digest, bundle, added_at as "addedAt" from policy_exception
         where namespace = ? order by added_at, digest`,
        namespace,
      ),
    addException: (row: ExceptionRow, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const added = await queries.run(
          `insert into policy_exception (namespace, digest, bundle, added_at) values (?, ?, ?, ?) on conflict do nothing`,
          row.namespace,
          row.digest,
          row.bundle,
          row.addedAt,
        );
        if (added === 1) await appendAudit(queries, audit);
        return added === 1;
      }),
    removeException: (namespace: string, digest: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const gone = await queries.run(
          "delete from policy_exception where namespace = ? and digest = ?",
          namespace,
          digest,
        );
        if (gone === 1) await appendAudit(queries, audit);
        return gone === 1;
      }),

    /** What `trustStampIn` says outside of a transaction. */
    trustStamp: (namespace: string) => trustStampIn(sql, namespace),
  };
}

/**
 * Changes whenever the policy of a namespace changes, or whether it asks for reviews, or a document that it or the operator's names. A judgement holds
 * at a commit only if the stamp is still the one from before its documents were read.
 */
export async function trustStampIn(queries: Queries, namespace: string): Promise<string> {
  const owner = await queries.one<{ policy: string; review: string }>(
    "select policy, review from namespace where name = ?",
    namespace,
  );
  const feeds = await queries.all<{ namespace: string; id: string; digest: string | null }>(
    "select namespace, id, digest from policy_feed where namespace in (?, '*') order by namespace, id",
    namespace,
  );
  const exceptions = await queries.all<{ digest: string }>(
    "select namespace, digest from policy_exception where namespace in (?, '*') order by namespace, digest",
    namespace,
  );
  return canonicalJson([owner ?? null, feeds, exceptions]);
}
