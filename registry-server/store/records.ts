/** Every question the registry asks its database, as typed functions; the same for SQLite and PostgreSQL. */
import { accountRecords } from "./records/accounts.ts";
import { auditRecords } from "./records/audit.ts";
import { collectionRecords } from "./records/collection.ts";
import { contentRecords } from "./records/content.ts";
import { mirrorRecords } from "./records/mirrors.ts";
import { noticeRecords } from "./records/notices.ts";
import { peopleRecords } from "./records/people.ts";
import { policyRecords } from "./records/policies.ts";
import { reviewRecords } from "./records/review.ts";
import { versionRecords } from "./records/versions.ts";
import type { Sql } from "./sql.ts";

export type { AuditEntry, AuditFilter, AuditHead, AuditRow } from "./records/audit.ts";
export type { ChoreName } from "./records/collection.ts";
export type { BlobRow, ManifestRow } from "./records/content.ts";
export type { NoticeKind, NoticeRow, ServedFeed } from "./records/notices.ts";
export type { AccountRow, Member, SessionRow } from "./records/people.ts";
export type { ExceptionRow, FeedDocument, FeedRow } from "./records/policies.ts";
export type { Decision, ReviewRow, ReviewState } from "./records/review.ts";
export type {
  KernelRow,
  ListedVersion,
  NewVersion,
  PublishedState,
  SearchText,
  VersionRow,
  VersionState,
  VersionStatus,
} from "./records/versions.ts";

export type Records = ReturnType<typeof createRecords>;

export function createRecords(sql: Sql) {
  return {
    ...accountRecords(sql),
    ...peopleRecords(sql),
    ...contentRecords(sql),
    ...versionRecords(sql),
    ...reviewRecords(sql),
    ...noticeRecords(sql),
    ...auditRecords(sql),
    ...collectionRecords(sql),
    ...policyRecords(sql),
    ...mirrorRecords(sql),
    dialect: sql.dialect,
    ping: async () => (await sql.one<{ one: number }>("select 1 as one"))?.one === 1,
    /** Writes a row, durably; fails when that is not possible. */
    pingWrite: (now: string) =>
      sql.run(
        `insert into lease (name, holder, until) values ('ready', '', ?)
         on conflict (name) do update set until = excluded.until`,
        now,
      ),
    close: () => sql.close(),
  };
}
