/** Versions that wait for a second person. */
import type { ContentDigest } from "../digests.ts";
import type { Queries, Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

export type ReviewState = "staged" | "approved" | "rejected";

export interface ReviewRow {
  readonly repository: string;
  readonly version: string;
  readonly digest: ContentDigest;
  readonly state: ReviewState;
  readonly askedAt: string;
  /** As in the audit log: who published it, and therefore may not approve it. */
  readonly askedBy: string;
  /** JSON document of the API as it would be, and the card: both are rendered again when it is approved. */
  readonly document: string;
  readonly card: string;
  readonly decidedAt: string | null;
  readonly decidedBy: string | null;
  readonly reason: string | null;
}

export type Waiting = Pick<
  ReviewRow,
  "repository" | "version" | "digest" | "askedAt" | "askedBy" | "document" | "card"
>;

export interface Decision {
  readonly by: string;
  readonly at: string;
  readonly reason: string | null;
}

const columns = `repository, version, digest, state, asked_at as "askedAt", asked_by as "askedBy", document, card,
  decided_at as "decidedAt", decided_by as "decidedBy", reason`;

export function reviewRecords(sql: Sql) {
  return {
    review: (repository: string, version: string) =>
      sql.one<ReviewRow>(`select ${columns} from review where repository = ? and version = ?`, repository, version),
    /** Of one package, latest first; what was approved is a version. */
    reviewsOf: (repository: string) =>
      sql.all<ReviewRow>(
        `select ${columns} from review where repository = ? and state <> 'approved' order by asked_at desc`,
        repository,
      ),
    /** Of all packages: what waits, in the order it came, and what was decided last. */
    reviewQueue: async (limit: number) => ({
      waiting: await sql.all<ReviewRow>(
        `select ${columns} from review where state = 'staged' order by asked_at, repository, version limit ?`,
        limit,
      ),
      decided: await sql.all<ReviewRow>(
        `select ${columns} from review where state <> 'staged' order by decided_at desc, repository, version limit ?`,
        limit,
      ),
    }),
    /** Whether a version that waits reaches this. */
    isStaged: async (repository: string, digest: string) =>
      (await sql.one(
        `select 1 as one from version_content c join review r
           on r.repository = c.repository and r.version = c.version and r.state = 'staged'
         where c.repository = ? and c.digest = ? limit 1`,
        repository,
        digest,
      )) !== undefined,
    /** False, and nothing written, when the version is published or in review already. */
    stageVersion: (row: Waiting, content: readonly ContentDigest[], audit: AuditEntry): Promise<boolean> =>
      sql.transaction(async (queries) => {
        const published = await queries.one(
          "select 1 as one from version where repository = ? and version = ?",
          row.repository,
          row.version,
        );
        if (published !== undefined) return false;
        const added = await queries.run(
          `insert into review (repository, version, digest, state, asked_at, asked_by, document, card)
           values (?, ?, ?, 'staged', ?, ?, ?, ?) on conflict do nothing`,
          row.repository,
          row.version,
          row.digest,
          row.askedAt,
          row.askedBy,
          row.document,
          row.card,
        );
        if (added === 0) return false;
        for (const digest of content) {
          await queries.run(
            "insert into version_content (repository, version, digest) values (?, ?, ?) on conflict do nothing",
            row.repository,
            row.version,
            digest,
          );
        }
        await appendAudit(queries, audit);
        return true;
      }),
    /** False when it does not wait any more. What it reached is from then on as if nobody had tagged it. */
    rejectVersion: (target: { repository: string; version: string }, decision: Decision, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        if (!(await settleReview(queries, target, "rejected", decision))) return false;
        await queries.run(
          "delete from version_content where repository = ? and version = ?",
          target.repository,
          target.version,
        );
        await appendAudit(queries, audit);
        return true;
      }),
  };
}

/** Within the transaction that publishes or rejects. False when it does not wait. */
export async function settleReview(
  queries: Queries,
  { repository, version }: { repository: string; version: string },
  state: Exclude<ReviewState, "staged">,
  decision: Decision,
): Promise<boolean> {
  const changed = await queries.run(
    `update review set state = ?, decided_at = ?, decided_by = ?, reason = ?
     where repository = ? and version = ? and state = 'staged'`,
    state,
    decision.at,
    decision.by,
    decision.reason,
    repository,
    version,
  );
  return changed === 1;
}

/** Whether a version is in review, or was and did not pass. */
export async function underReview(queries: Queries, repository: string, version: string): Promise<boolean> {
  const row = await queries.one(
    "select 1 as one from review where repository = ? and version = ? and state <> 'approved'",
    repository,
    version,
  );
  return row !== undefined;
}
