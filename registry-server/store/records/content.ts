/** Blobs, manifests and moving tags of repositories, and what collection and checks ask about them. */
import { mediaTypes } from "@kernlock/kernels/format";
import type { ContentDigest } from "../digests.ts";
import type { Queries, Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

/** 0: pushed and not published; 1: readable; -1: withheld by a quarantine. */
export type Visible = -1 | 0 | 1;

export interface ManifestRow {
  readonly repository: string;
  readonly digest: ContentDigest;
  readonly mediaType: string;
  readonly artifactType: string | null;
  /** Digest of the manifest this one speaks about. */
  readonly subject: ContentDigest | null;
  /** JSON object of strings, or null. */
  readonly annotations: string | null;
  readonly bytes: Buffer;
  readonly visible: Visible;
}

export interface BlobRow {
  readonly visible: Visible;
  /** Null for what a first release stored: ask the blob store. */
  readonly size: number | null;
  readonly state: "present" | "deleting" | "damaged";
  readonly touchedAt: string;
}

const manifestColumns = `repository, digest, media_type as "mediaType", artifact_type as "artifactType", subject, annotations, bytes, visible`;
const oneManifest = `select ${manifestColumns} from manifest where repository = ? and digest = ?`;

/** A bundle that is put on something; how many of them there may be. */
export interface Attachment {
  readonly audit: AuditEntry;
  readonly mostOnSubject: number;
  /** By the same hand, once the subject is published. */
  readonly mostByActor: number;
}

export function contentRecords(sql: Sql) {
  return {
    /**
     * Announces bytes that are about to be stored. False while the same bytes are being deleted: wait and ask again.
     * From then on collection leaves them alone for its grace period.
     */
    announceBlob: (digest: ContentDigest, now: string) =>
      sql.transaction(async (queries) => {
        const row = await queries.one<{ state: string }>("select state from blob where digest = ?", digest);
        if (row?.state === "deleting") return false;
        await queries.run(
          `insert into blob (digest, touched_at) values (?, ?)
           on conflict (digest) do update set touched_at = excluded.touched_at`,
          digest,
          now,
        );
        return true;
      }),
    /** Stored bytes become known to a repository. */
    addBlob: (blob: { repository: string; digest: ContentDigest; size: number; now: string }) =>
      sql.transaction(async (queries) => {
        await queries.run(
          `insert into blob (digest, size, touched_at) values (?, ?, ?)
           on conflict (digest) do update set size = excluded.size, state = 'present', touched_at = excluded.touched_at`,
          blob.digest,
          blob.size,
          blob.now,
        );
        await queries.run(
          `insert into repository_blob (repository, digest, touched_at) values (?, ?, ?)
           on conflict (repository, digest) do update set touched_at = excluded.touched_at`,
          blob.repository,
          blob.digest,
          blob.now,
        );
      }),
    /** Makes bytes of one repository known to another. False when they are gone, or going. */
    mountBlob: (blob: { repository: string; digest: ContentDigest; now: string }) =>
      sql.transaction(async (queries) => {
        const there = await queries.run(
          "update blob set touched_at = ? where digest = ? and state = 'present'",
          blob.now,
          blob.digest,
        );
        if (there === 0) return false;
        await queries.run(
          `insert into repository_blob (repository, digest, touched_at) values (?, ?, ?)
           on conflict (repository, digest) do update set touched_at = excluded.touched_at`,
          blob.repository,
          blob.digest,
          blob.now,
        );
        return true;
      }),
    blob: (repository: string, digest: string) =>
      sql.one<BlobRow>(
        `select r.visible, b.size, b.state, r.touched_at as "touchedAt"
         from repository_blob r join blob b on b.digest = r.digest where r.repository = ? and r.digest = ?`,
        repository,
        digest,
      ),
    /** Repositories that know these bytes, for mounting without a source. */
    repositoriesWith: async (digest: string, limit: number) =>
      (
        await sql.all<{ repository: string }>(
          "select repository from repository_blob where digest = ? order by repository limit ?",
          digest,
          limit,
        )
      ).map((row) => row.repository),
    /** Somebody looked whether it is here, and may build on the answer. */
    touchBlob: (repository: string, digest: string, now: string) =>
      sql.run("update repository_blob set touched_at = ? where repository = ? and digest = ?", now, repository, digest),
    removeBlob: (repository: string, digest: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        await queries.run("delete from repository_blob where repository = ? and digest = ?", repository, digest);
        await appendAudit(queries, audit);
      }),
    markDamaged: (digest: string) => sql.run("update blob set state = 'damaged' where digest = ?", digest),

    /**
     * Stores a manifest together with what it names. `missing` names a blob that went away since it was checked, `full`
     * says that its subject has no room for another bundle; then nothing is stored. A visible manifest makes its blobs
     * visible. With `attach` it is a bundle that is visible if its subject is, at this very moment, and then written down.
     */
    addManifest: (
      given: ManifestRow,
      names: { readonly blobs: readonly ContentDigest[]; readonly manifests: readonly ContentDigest[] },
      put: { readonly at: string; readonly by: string; readonly attach?: Attachment },
    ): Promise<{ added: boolean; missing?: ContentDigest; full?: "subject" | "actor" }> =>
      sql.transaction(async (queries) => {
        const { attach } = put;
        const row = attach === undefined ? given : { ...given, visible: await visibleLikeSubject(queries, given) };
        for (const digest of names.blobs) {
          const here = await queries.one(
            `select 1 as one from repository_blob r join blob b on b.digest = r.digest
             where r.repository = ? and r.digest = ? and b.state = 'present'`,
            row.repository,
            digest,
          );
          if (here === undefined) return { added: false, missing: digest };
        }
        const full = attach === undefined ? undefined : await isFull(queries, row, put.by, attach);
        if (full !== undefined) return { added: false, full };
        for (const digest of names.blobs) {
          await queries.run(
            `update repository_blob set touched_at = ?, visible = case when ? = 1 and visible = 0 then 1 else visible end
             where repository = ? and digest = ?`,
            put.at,
            row.visible,
            row.repository,
            digest,
          );
        }
        const added = await queries.run(
          `insert into manifest
             (repository, digest, media_type, artifact_type, subject, annotations, bytes, visible, created_at, put_by)
           values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`,
          row.repository,
          row.digest,
          row.mediaType,
          row.artifactType,
          row.subject,
          row.annotations,
          row.bytes,
          row.visible,
          put.at,
          put.by,
        );
        for (const digest of [...names.blobs, ...names.manifests]) {
          await queries.run(
            "insert into reference (repository, manifest, digest) values (?, ?, ?) on conflict do nothing",
            row.repository,
            row.digest,
            digest,
          );
        }
        if (row.visible === 1 && row.subject !== null) {
          // Whatever speaks about a version belongs to it, and is withheld with it.
          for (const digest of [row.digest, ...names.blobs]) {
            await queries.run(
              `insert into version_content (repository, version, digest)
               select repository, version, ? from version_content where repository = ? and digest = ?
               on conflict do nothing`,
              digest,
              row.repository,
              row.subject,
            );
          }
        }
        if (row.visible === 1 && attach !== undefined) {
          // It may have come before, while its subject was withheld.
          const shown = "update manifest set visible = 1 where repository = ? and digest = ? and visible = 0";
          const changed = (await queries.run(shown, row.repository, row.digest)) + added;
          if (changed > 0) await appendAudit(queries, attach.audit);
        }
        return { added: added === 1 };
      }),
    /** Only what nobody can see yet. */
    removeUnpublished: (repository: string, digest: ContentDigest) =>
      sql.transaction(async (queries) => {
        const removed = await queries.run(
          "delete from manifest where repository = ? and digest = ? and visible = 0",
          repository,
          digest,
        );
        if (removed === 1) await forgetReferences(queries, repository, digest);
      }),
    /** Removes a manifest and the tags on it. False when there was none. */
    deleteManifest: (repository: string, digest: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const removed = await queries.run(
          "delete from manifest where repository = ? and digest = ?",
          repository,
          digest,
        );
        if (removed === 0) return false;
        await queries.run("delete from tag where repository = ? and digest = ?", repository, digest);
        await forgetReferences(queries, repository, digest);
        await appendAudit(queries, audit);
        return true;
      }),
    manifest: (repository: string, digest: string) => sql.one<ManifestRow>(oneManifest, repository, digest),
    referrers: (repository: string, subject: string) =>
      sql.all<ManifestRow>(
        `select ${manifestColumns} from manifest where repository = ? and subject = ? order by created_at, digest`,
        repository,
        subject,
      ),
    /** The bundles on a manifest, oldest first. */
    bundlesOn: (repository: string, subject: string, limit: number) =>
      sql.all<ManifestRow>(
        `select ${manifestColumns} from manifest where repository = ? and subject = ? and artifact_type = ?
         order by created_at, digest limit ?`,
        repository,
        subject,
        mediaTypes.bundle,
        limit,
      ),
    hasRepository: async (repository: string) =>
      (await sql.one("select 1 as one from manifest where repository = ? limit 1", repository)) !== undefined,

    // moving tags
    tag: async (repository: string, tag: string) =>
      (
        await sql.one<{ digest: ContentDigest }>(
          "select digest from tag where repository = ? and tag = ?",
          repository,
          tag,
        )
      )?.digest,
    putTag: (repository: string, tag: string, digest: ContentDigest, at: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        await queries.run(
          `insert into tag (repository, tag, digest, updated_at) values (?, ?, ?, ?)
           on conflict (repository, tag) do update set digest = excluded.digest, updated_at = excluded.updated_at`,
          repository,
          tag,
          digest,
          at,
        );
        await appendAudit(queries, audit);
      }),
    removeTag: (repository: string, tag: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const removed = await queries.run("delete from tag where repository = ? and tag = ?", repository, tag);
        if (removed === 1) await appendAudit(queries, audit);
        return removed === 1;
      }),
    /** Moving tags in byte order, after `last`. */
    movingTags: async (repository: string, last: string, limit: number) =>
      (
        await sql.all<{ tag: string }>(
          "select tag from tag where repository = ? and tag > ? order by tag limit ?",
          repository,
          last,
          limit,
        )
      ).map((row) => row.tag),
  };
}

/** A bundle that is here already needs no room. */
async function isFull(
  queries: Queries,
  row: ManifestRow,
  by: string,
  { mostOnSubject, mostByActor }: Attachment,
): Promise<"subject" | "actor" | undefined> {
  const { repository, subject, digest } = row;
  const there = await queries.all<{ digest: string; by: string | null }>(
    `select digest, put_by as "by" from manifest where repository = ? and subject = ? and artifact_type = ?`,
    repository,
    subject,
    mediaTypes.bundle,
  );
  if (there.some((other) => other.digest === digest)) return undefined;
  if (there.length >= mostOnSubject) return "subject";
  return row.visible === 1 && there.filter((other) => other.by === by).length >= mostByActor ? "actor" : undefined;
}

async function visibleLikeSubject(queries: Queries, { repository, subject }: ManifestRow): Promise<Visible> {
  const found = await queries.one<{ visible: Visible }>(
    "select visible from manifest where repository = ? and digest = ?",
    repository,
    subject,
  );
  return found?.visible === 1 ? 1 : 0;
}

async function forgetReferences(queries: Queries, repository: string, manifest: string): Promise<void> {
  await queries.run("delete from reference where repository = ? and manifest = ?", repository, manifest);
}
