/** What garbage collection, scrub, fsck and backup ask and change. */
import type { ContentDigest } from "../digests.ts";
import type { Sql } from "../sql.ts";
import { appendAudit } from "./audit.ts";

/** What a version reaches that waits for its review is kept for as long as it waits. */
const unpublished = `m.visible = 0 and m.created_at < ? and not exists
  (select 1 from manifest s where s.repository = m.repository and s.digest = m.subject and s.visible <> 0)
  and not exists
  (select 1 from version_content c where c.repository = m.repository and c.digest in (m.digest, m.subject))`;
const unnamed = `touched_at < ? and not exists
  (select 1 from reference f where f.repository = repository_blob.repository and f.digest = repository_blob.digest)`;
const unknown = `state <> 'damaged' and touched_at < ? and not exists
  (select 1 from repository_blob r where r.digest = blob.digest)`;

export type ChoreName = "gc" | "scrub" | "fsck" | "backup";

export function collectionRecords(sql: Sql) {
  return {
    /**
     * Forgets, in one transaction, what nobody published or names and nobody touched since `before`: manifests, then
     * blobs of repositories, then marks the bytes that no repository knows as going. Returns those. With `dryRun` all
     * is rolled back.
     */
    async collect(before: string, dryRun: boolean, at: string) {
      const outcome = { manifests: 0, links: 0, blobs: [] as { digest: ContentDigest; size: number | null }[] };
      const rollBack = new Error("dry run");
      try {
        await sql.transaction(async (queries) => {
          const manifests = await queries.all<{ repository: string; digest: string }>(
            `select m.repository, m.digest from manifest m where ${unpublished}`,
            before,
          );
          for (const { repository, digest } of manifests) {
            await queries.run("delete from manifest where repository = ? and digest = ?", repository, digest);
            await queries.run("delete from reference where repository = ? and manifest = ?", repository, digest);
          }
          outcome.manifests = manifests.length;
          outcome.links = await queries.run(`delete from repository_blob where ${unnamed}`, before);
          await queries.run(`update blob set state = 'deleting' where state = 'present' and ${unknown}`, before);
          // Also those that an interrupted collection left marked.
          outcome.blobs = await queries.all("select digest, size from blob where state = 'deleting' order by digest");
          if (dryRun) throw rollBack;
          if (outcome.manifests + outcome.links + outcome.blobs.length > 0) {
            const details = { manifests: outcome.manifests, links: outcome.links, blobs: outcome.blobs.length };
            await appendAudit(queries, { at, actor: "registry", action: "gc", subject: "storage", details });
          }
        });
      } catch (error) {
        if (error !== rollBack) throw error;
      }
      return outcome;
    },
    /** The bytes are gone. */
    forgetBlob: (digest: string) => sql.run("delete from blob where digest = ? and state = 'deleting'", digest),
    /** Blobs in order of their digest, after `after`. */
    blobsAfter: (after: string, limit: number) =>
      sql.all<{ digest: ContentDigest; size: number | null; state: string }>(
        "select digest, size, state from blob where digest > ? order by digest limit ?",
        after,
        limit,
      ),
    blobRow: (digest: string) =>
      sql.one<{ size: number | null; state: string }>("select size, state from blob where digest = ?", digest),
    setBlobSize: (digest: string, size: number) => sql.run("update blob set size = ? where digest = ?", size, digest),

    /** Rows that contradict each other. All of these lists are empty in a sound database. */
    async contradictions() {
      return {
        linksWithoutBlob: await sql.all<{ repository: string; digest: string }>(
          `select r.repository, r.digest from repository_blob r
           where not exists (select 1 from blob b where b.digest = r.digest) limit 100`,
        ),
        namedAndAbsent: await sql.all<{ repository: string; manifest: string; digest: string }>(
          `select f.repository, f.manifest, f.digest from reference f
           join namespace n on substr(f.repository, 1, length(n.name) + 1) = n.name || '/' and n.kind = 'kernels'
           where not exists (select 1 from repository_blob r where r.repository = f.repository and r.digest = f.digest)
             and not exists (select 1 from manifest m where m.repository = f.repository and m.digest = f.digest) limit 100`,
        ),
        versionsWithoutManifest: await sql.all<{ repository: string; version: string }>(
          `select v.repository, v.version from version v where not exists
             (select 1 from manifest m where m.repository = v.repository and m.digest = v.digest) limit 100`,
        ),
        versionsPartlyHidden: await sql.all<{ repository: string; version: string; digest: string }>(
          `select c.repository, c.version, c.digest from version_content c
           join version v on v.repository = c.repository and v.version = c.version and v.state <> 'quarantined'
           where exists (select 1 from manifest m where m.repository = c.repository and m.digest = c.digest and m.visible <> 1)
              or exists (select 1 from repository_blob r where r.repository = c.repository and r.digest = c.digest and r.visible <> 1)
           limit 100`,
        ),
        tagsWithoutManifest: await sql.all<{ repository: string; tag: string }>(
          `select t.repository, t.tag from tag t where not exists
             (select 1 from manifest m where m.repository = t.repository and m.digest = t.digest) limit 100`,
        ),
      };
    },
    /** Repositories and versions that need these bytes. */
    usersOf: (digest: string) =>
      sql.all<{ repository: string; version: string | null }>(
        `select r.repository, c.version from repository_blob r
         left join version_content c on c.repository = r.repository and c.digest = r.digest
         where r.digest = ? order by r.repository, c.version`,
        digest,
      ),
    counts: async () =>
      (await sql.one<{
        namespaces: number;
        kernels: number;
        versions: number;
        manifests: number;
        blobs: number;
        bytes: number;
      }>(
        `select (select count(*) from namespace) as namespaces, (select count(*) from kernel) as kernels,
           (select count(*) from version) as versions, (select count(*) from manifest) as manifests,
           (select count(*) from blob) as blobs, (select cast(coalesce(sum(size), 0) as bigint) from blob) as bytes`,
      ))!,

    /** Remembers the last time of `gc`, `scrub`, `fsck` or `backup`. */
    noteChore: (name: ChoreName, at: string, outcome: Readonly<Record<string, unknown>>) =>
      sql.run(
        `insert into chore (name, at, outcome) values (?, ?, ?)
         on conflict (name) do update set at = excluded.at, outcome = excluded.outcome`,
        name,
        at,
        JSON.stringify(outcome),
      ),
    chores: () => sql.all<{ name: ChoreName; at: string; outcome: string }>("select name, at, outcome from chore"),
    countDamaged: async () =>
      (await sql.one<{ n: number }>("select count(*) as n from blob where state = 'damaged'"))!.n,
    /** Bytes of the database itself, and how many migrations it has seen. */
    databaseFacts: async (): Promise<{ bytes: number; schema: number }> =>
      (await sql.one(
        sql.dialect === "sqlite"
          ? `select (select page_count from pragma_page_count()) * (select page_size from pragma_page_size()) as bytes,
               (select user_version from pragma_user_version()) as schema`
          : "select pg_database_size(current_database()) as bytes, (select done from schema_version) as schema",
      ))!,

    /** One holder of a name at a time, until it lets go or `until` passes. */
    takeLease: async (name: string, holder: string, now: string, until: string) =>
      (await sql.run(
        `insert into lease (name, holder, until) values (?, ?, ?)
         on conflict (name) do update set holder = excluded.holder, until = excluded.until
         where lease.until < ? or lease.holder = excluded.holder`,
        name,
        holder,
        until,
        now,
      )) === 1,
    holdsLease: async (name: string, holder: string) =>
      (await sql.one("select 1 as one from lease where name = ? and holder = ?", name, holder)) !== undefined,
    dropLease: (name: string, holder: string) =>
      sql.run("delete from lease where name = ? and holder = ?", name, holder),
  };
}
