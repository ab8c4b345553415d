/** Published versions, the kernels they belong to, and search. */
import { mediaTypes } from "@kernlock/kernels/format";
import type { ContentDigest } from "../digests.ts";
import type { Queries, Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";
import { trustStampIn } from "./policies.ts";
import { type Decision, settleReview, underReview } from "./review.ts";

/** `yanked`: served to those who pin it, not offered to others. `quarantined`: withheld from everybody. */
export type PublishedState = "ok" | "yanked" | "quarantined";
/** `staged`: waits for a second person; `rejected`: did not pass. review/states.ts says who is shown what. */
export type VersionState = PublishedState | "staged" | "rejected";

export interface VersionRow {
  readonly repository: string;
  readonly version: string;
  readonly digest: ContentDigest;
  readonly publishedAt: string;
  readonly tokenId: string;
  /** JSON of the verdict that let it in. */
  readonly verdict: string;
  /** JSON document of the API. */
  readonly document: string;
  /** The kernel card as sanitised HTML. */
  readonly card: string;
}

export interface VersionStatus {
  readonly state: VersionState;
  readonly stateReason: string | null;
  readonly stateAt: string | null;
}

export type ListedVersion = Pick<VersionRow, "version" | "digest" | "publishedAt"> & VersionStatus;

export interface KernelRow {
  readonly repository: string;
  readonly namespace: string;
  readonly latest: string;
  readonly summary: string;
  readonly license: string;
  readonly publishedAt: string;
}

export interface SearchText {
  readonly summary: string;
  readonly ops: string;
  readonly backends: string;
  readonly card: string;
}

/** What `commitVersion` writes in one transaction. */
export interface NewVersion {
  readonly version: VersionRow;
  /** Manifests and blobs that the version reaches. */
  readonly content: readonly ContentDigest[];
  /** Decides, given the versions already offered, what the kernel's row and search text become; null leaves them. */
  readonly kernel: (others: readonly string[]) => { row: KernelRow; search: SearchText } | null;
  /** Where it waited: who let it in. */
  readonly approval?: Decision;
  readonly judged: {
    readonly namespace: string;
    /** `trustStamp` from before the policies were read. */
    readonly stamp: string;
    readonly subjects: readonly ContentDigest[];
    /** Manifests of the bundles on these subjects, those that the verdict is about. */
    readonly bundles: readonly ContentDigest[];
    /** Of whoever publishes; it must still be one. */
    readonly token?: string;
  };
}

const statusColumns = `state, state_reason as "stateReason", state_at as "stateAt"`;
const versionColumns = `repository, version, digest, published_at as "publishedAt", token_id as "tokenId", verdict, document, card`;
const kernelColumns = `k.repository, k.namespace, k.latest, k.summary, k.license, k.published_at as "publishedAt"`;
/** Which kernels a reader is shown; its parameters: what `readerOf` gave, twice. No name holds a comma or `#`. */
const listable = `(n.visibility = 'public' or ? = '*' or replace(?, ',' || n.name || ',', '#') like '%#%') and exists
  (select 1 from version v where v.repository = k.repository and v.state <> 'quarantined')`;

export function versionRecords(sql: Sql) {
  return {
    version: (repository: string, version: string) =>
      sql.one<VersionRow & VersionStatus>(
        `select ${versionColumns}, ${statusColumns} from version where repository = ? and version = ?`,
        repository,
        version,
      ),
    /** What is listed as a tag: in byte order, after `last`, without what is quarantined. */
    versionTags: async (repository: string, last: string, limit: number) =>
      (
        await sql.all<{ version: string }>(
          `select version from version where repository = ? and version > ? and state <> 'quarantined'
           order by version limit ?`,
          repository,
          last,
          limit,
        )
      ).map((row) => row.version),
    versions: (repository: string) =>
      sql.all<ListedVersion>(
        `select version, digest, published_at as "publishedAt", ${statusColumns} from version
         where repository = ? order by published_at desc`,
        repository,
      ),
    /** Versions that are yanked or quarantined, latest change first. */
    flaggedVersions: (reader: string) =>
      sql.all<ListedVersion & { repository: string }>(
        `select v.repository, v.version, v.digest, v.published_at as "publishedAt", v.state,
           v.state_reason as "stateReason", v.state_at as "stateAt"
         from version v join kernel k on k.repository = v.repository join namespace n on n.name = k.namespace
         where v.state <> 'ok' and (n.visibility = 'public' or ? = '*' or replace(?, ',' || n.name || ',', '#') like '%#%')
         order by v.state_at desc, v.repository, v.version limit 10000`,
        reader,
        reader,
      ),
    /**
     * The commit point. Nothing is written when the version "exists", when the publisher's token was "revoked", or when
     * what it was judged by has "changed": then it has to be judged again.
     */
    commitVersion: (entry: NewVersion, audit: AuditEntry): Promise<"committed" | "exists" | "changed" | "revoked"> =>
      sql.transaction(async (queries) => {
        const v = entry.version;
        const exists = "select 1 as one from version where repository = ? and version = ?";
        if ((await queries.one(exists, v.repository, v.version)) !== undefined) return "exists";
        const { token } = entry.judged;
        const known = "select 1 as one from token where id = ?";
        if (token !== undefined && (await queries.one(known, token)) === undefined) return "revoked";
        if (!(await standsAsJudged(queries, entry))) return "changed";
        const decided =
          entry.approval === undefined
            ? !(await underReview(queries, v.repository, v.version))
            : await settleReview(queries, v, "approved", entry.approval);
        if (!decided) return "exists";
        await queries.run(
          `insert into version (repository, version, digest, published_at, token_id, verdict, document, card)
           values (?, ?, ?, ?, ?, ?, ?, ?)`,
          v.repository,
          v.version,
          v.digest,
          v.publishedAt,
          v.tokenId,
          v.verdict,
          v.document,
          v.card,
        );
        for (const digest of entry.content) {
          await queries.run(
            "insert into version_content (repository, version, digest) values (?, ?, ?) on conflict do nothing",
            v.repository,
            v.version,
            digest,
          );
          await setVisible(queries, v.repository, digest, 1);
        }
        const others = await offered(queries, v.repository);
        const kernel = entry.kernel(others.filter((version) => version !== v.version));
        if (kernel !== null) await putKernel(sql.dialect, queries, kernel.row, kernel.search);
        await appendAudit(queries, audit);
        return "committed";
      }),
    /**
     * Sets a version's state. What only quarantined versions reach is withheld, everything else of it is readable.
     * `latest` picks the kernel's version to show from those offered. False when there is no such version.
     */
    setVersionState: (
      target: {
        repository: string;
        version: string;
        state: PublishedState;
        reason: string | null;
        by: string;
        at: string;
      },
      latest: (versions: readonly string[]) => string | undefined,
      audit: AuditEntry,
    ): Promise<boolean> =>
      sql.transaction(async (queries) => {
        const { repository, version, state } = target;
        const changed = await queries.run(
          `update version set state = ?, state_reason = ?, state_at = ?, state_by = ?
           where repository = ? and version = ?`,
          state,
          target.reason,
          target.at,
          target.by,
          repository,
          version,
        );
        if (changed === 0) return false;
        const content = await queries.all<{ digest: string; open: number }>(
          `select c.digest, (select count(*) from version_content o join version v
              on v.repository = o.repository and v.version = o.version and v.state <> 'quarantined'
              where o.repository = c.repository and o.digest = c.digest) as open
           from version_content c where c.repository = ? and c.version = ?`,
          repository,
          version,
        );
        for (const { digest, open } of content) await setVisible(queries, repository, digest, open > 0 ? 1 : -1);
        const shown = latest(await offered(queries, repository)) ?? (await anyLeft(queries, repository));
        if (shown !== undefined) {
          await queries.run(
            `update kernel set latest = ?, published_at = (select v.published_at from version v where v.repository = ? and v.version = ?)
             where repository = ?`,
            shown,
            repository,
            shown,
            repository,
          );
        }
        await appendAudit(queries, audit);
        return true;
      }),

    kernel: (repository: string) =>
      sql.one<KernelRow>(`select ${kernelColumns} from kernel k where k.repository = ?`, repository),
    /** Newest first. `reader` (of `readerOf`) says whose private kernels are shown too. */
    recent: (reader: string, limit: number) =>
      sql.all<KernelRow>(
        `select ${kernelColumns} from kernel k join namespace n on n.name = k.namespace
         where ${listable} order by k.published_at desc, k.repository limit ?`,
        reader,
        reader,
        limit,
      ),
    /** Of one namespace, by name. */
    kernelsOf: (namespace: string, reader: string, limit: number) =>
      sql.all<KernelRow>(
        `select ${kernelColumns} from kernel k join namespace n on n.name = k.namespace
         where k.namespace = ? and ${listable} order by k.repository limit ?`,
        namespace,
        reader,
        reader,
        limit,
      ),
    /** Kernels that hold a word beginning with each of `words` (letters and digits only); better matches first. */
    search: (words: readonly string[], reader: string, limit: number) =>
      sql.dialect === "sqlite"
        ? sql.all<KernelRow>(sqliteSearch, sqliteMatch(words), reader, reader, limit)
        : sql.all<KernelRow>(
            `select ${kernelColumns} from kernel_search s join kernel k on k.id = s.id
             join namespace n on n.name = k.namespace
             where s.words @@ to_tsquery('english', ?) and ${listable}
             order by ts_rank(s.words, to_tsquery('english', ?)) desc, k.repository limit ?`,
            words.map((word) => `'${word}':*`).join(" & "),
            reader,
            reader,
            words.map((word) => `'${word}':*`).join(" & "),
            limit,
          ),
  };
}

const sqliteSearch = `select ${kernelColumns} from kernel_search s join kernel k on k.id = s.rowid
  join namespace n on n.name = k.namespace where kernel_search match ? and ${listable}
  order by bm25(kernel_search, 8, 4, 4, 2, 1), k.repository limit ?`;

function sqliteMatch(words: readonly string[]): string {
  return words.map((word) => `"${word}"*`).join(" ");
}

/** Whether everything that a version reaches is still here, and was judged by what still is policy and evidence. */
async function standsAsJudged(queries: Queries, { version, content, judged }: NewVersion): Promise<boolean> {
  if ((await trustStampIn(queries, judged.namespace)) !== judged.stamp) return false;
  const { repository } = version;
  const bundles = new Set<string>(judged.bundles);
  for (const subject of judged.subjects) {
    const attached = await queries.all<{ digest: string }>(
      "select digest from manifest where repository = ? and subject = ? and artifact_type = ?",
      repository,
      subject,
      mediaTypes.bundle,
    );
    if (!attached.every(({ digest }) => bundles.has(digest))) return false;
  }
  for (const digest of content) {
    const here = await queries.one(
      `select 1 as one from manifest where repository = ? and digest = ? union all
       select 1 as one from repository_blob where repository = ? and digest = ? limit 1`,
      repository,
      digest,
      repository,
      digest,
    );
    if (here === undefined) return false;
  }
  return true;
}

async function offered(queries: Queries, repository: string): Promise<string[]> {
  const rows = await queries.all<{ version: string }>(
    "select version from version where repository = ? and state = 'ok'",
    repository,
  );
  return rows.map((row) => row.version);
}

async function anyLeft(queries: Queries, repository: string): Promise<string | undefined> {
  const row = await queries.one<{ version: string }>(
    `select version from version where repository = ? order by case state when 'yanked' then 0 else 1 end, published_at desc
     limit 1`,
    repository,
  );
  return row?.version;
}

async function setVisible(queries: Queries, repository: string, digest: string, visible: number): Promise<void> {
  for (const table of ["manifest", "repository_blob"]) {
    await queries.run(
      `update ${table} set visible = ? where repository = ? and digest = ?`,
      visible,
      repository,
      digest,
    );
  }
}

async function putKernel(dialect: Sql["dialect"], queries: Queries, row: KernelRow, text: SearchText): Promise<void> {
  await queries.run(
    `insert into kernel (repository, namespace, latest, summary, license, published_at) values (?, ?, ?, ?, ?, ?)
     on conflict (repository) do update set latest = excluded.latest, summary = excluded.summary,
       license = excluded.license, published_at = excluded.published_at`,
    row.repository,
    row.namespace,
    row.latest,
    row.summary,
    row.license,
    row.publishedAt,
  );
  const { id } = (await queries.one<{ id: number }>("select id from kernel where repository = ?", row.repository))!;
  const texts = [row.repository, text.summary, text.ops, text.backends, text.card];
  if (dialect === "sqlite") {
    await queries.run("delete from kernel_search where rowid = ?", id);
    await queries.run(
      "insert into kernel_search (rowid, repository, summary, ops, backends, card) values (?, ?, ?, ?, ?, ?)",
      id,
      ...texts,
    );
    return;
  }
  // Names count as their parts, as they do in SQLite's tokenizer.
  const parts = texts.map((part) => part.replaceAll(/[^\p{L}\p{N}]+/gu, " "));
  await queries.run(
    `insert into kernel_search (id, words) values (?, setweight(to_tsvector('english', ?), 'A') ||
       setweight(to_tsvector('english', ?), 'B') || setweight(to_tsvector('english', ?), 'B') ||
       setweight(to_tsvector('english', ?), 'C') || setweight(to_tsvector('english', ?), 'D'))
     on conflict (id) do update set words = excluded.words`,
    id,
    ...parts,
  );
}
