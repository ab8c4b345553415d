/** Every question the registry asks its database, as typed functions over prepared statements. */
import type { Digest } from "@kernlock/kernels/format";
import type { Statement } from "better-sqlite3";
import type { Namespace, TokenInfo, TokenScope, Visibility } from "../admin.ts";
import { openDatabase, type Sql } from "./database.ts";

export interface ManifestRow {
  readonly repository: string;
  readonly digest: Digest;
  readonly mediaType: string;
  readonly artifactType: string | null;
  /** Digest of the manifest this one speaks about. */
  readonly subject: Digest | null;
  /** JSON object of strings, or null. */
  readonly annotations: string | null;
  readonly bytes: Buffer;
  readonly visible: 0 | 1;
}

export interface VersionRow {
  readonly repository: string;
  readonly version: string;
  readonly digest: Digest;
  readonly publishedAt: string;
  readonly tokenId: string;
  /** JSON of the verdict that let it in. */
  readonly verdict: string;
  /** JSON document of the API. */
  readonly document: string;
  /** The kernel card as sanitised HTML. */
  readonly card: string;
}

export interface KernelRow {
  readonly repository: string;
  readonly namespace: string;
  readonly latest: string;
  readonly summary: string;
  readonly license: string;
  readonly publishedAt: string;
}

/** What `commitVersion` writes in one transaction. */
export interface NewVersion {
  readonly version: VersionRow;
  readonly manifests: readonly Digest[];
  readonly blobs: readonly Digest[];
  /** Decides, given the versions already there, what the kernel's row and search text become; null leaves them. */
  readonly kernel: (others: readonly string[]) => { row: KernelRow; search: SearchText } | null;
}

export interface SearchText {
  readonly summary: string;
  readonly ops: string;
  readonly backends: string;
  readonly card: string;
}

export type Catalog = ReturnType<typeof createCatalog>;

export function openCatalog(folder: string): Catalog {
  return createCatalog(openDatabase(folder));
}

const namespaceColumns = "name, visibility, policy, created_at as createdAt";
const tokenColumns = "id, namespace, scope, label, created_at as createdAt, expires_at as expiresAt";
const manifestColumns =
  "repository, digest, media_type as mediaType, artifact_type as artifactType, subject, annotations, bytes, visible";
const versionColumns =
  "repository, version, digest, published_at as publishedAt, token_id as tokenId, verdict, document, card";
const kernelColumns = "k.repository, k.namespace, k.latest, k.summary, k.license, k.published_at as publishedAt";

function createCatalog(sql: Sql) {
  const prepared = new Map<string, Statement<unknown[]>>();
  const statement = (text: string) => {
    const found = prepared.get(text) ?? sql.prepare<unknown[]>(text);
    prepared.set(text, found);
    return found;
  };
  const one = <T>(text: string, ...values: unknown[]) => statement(text).get(...values) as T | undefined;
  const all = <T>(text: string, ...values: unknown[]) => statement(text).all(...values) as T[];
  const run = (text: string, ...values: unknown[]) => statement(text).run(...values).changes;

  return {
    close: () => void sql.close(),
    ping: () => one<{ one: number }>("select 1 as one")?.one === 1,

    // namespaces and tokens
    namespace: (name: string) => one<Namespace>(`select ${namespaceColumns} from namespace where name = ?`, name),
    namespaces: () => all<Namespace>(`select ${namespaceColumns} from namespace order by name`),
    /** False when the name is taken. */
    addNamespace: (row: { name: string; visibility: Visibility; policy: string; createdAt: string }) =>
      run(
        "insert into namespace (name, visibility, policy, created_at) values (?, ?, ?, ?) on conflict do nothing",
        row.name,
        row.visibility,
        row.policy,
        row.createdAt,
      ) === 1,
    setPolicy: (name: string, policy: string) =>
      run("update namespace set policy = ? where name = ?", policy, name) === 1,
    addToken: (row: TokenInfo, hash: Buffer) =>
      run(
        "insert into token (id, hash, namespace, scope, label, created_at, expires_at) values (?, ?, ?, ?, ?, ?, ?)",
        row.id,
        hash,
        row.namespace,
        row.scope,
        row.label,
        row.createdAt,
        row.expiresAt,
      ),
    tokenByHash: (hash: Buffer) =>
      one<TokenInfo & { scope: TokenScope }>(`select ${tokenColumns} from token where hash = ?`, hash),
    tokens: (namespace: string) =>
      all<TokenInfo>(`select ${tokenColumns} from token where namespace = ? order by created_at, id`, namespace),
    removeToken: (id: string) => run("delete from token where id = ?", id) === 1,

    // blobs and manifests of a repository
    addBlob: (repository: string, digest: Digest) =>
      run("insert into repository_blob (repository, digest) values (?, ?) on conflict do nothing", repository, digest),
    hasBlob: (repository: string, digest: Digest, onlyVisible: boolean) =>
      one(
        "select 1 from repository_blob where repository = ? and digest = ? and visible >= ?",
        repository,
        digest,
        onlyVisible ? 1 : 0,
      ) !== undefined,
    /** False when it was here already. `blobs` become visible with a visible manifest. */
    addManifest: (row: ManifestRow, createdAt: string, blobs: readonly Digest[]): boolean =>
      sql
        .transaction(() => {
          const added = run(
            `insert into manifest (repository, digest, media_type, artifact_type, subject, annotations, bytes, visible, created_at)
             values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing`,
            row.repository,
            row.digest,
            row.mediaType,
            row.artifactType,
            row.subject,
            row.annotations,
            row.bytes,
            row.visible,
            createdAt,
          );
          if (row.visible === 1) reveal(row.repository, [], blobs);
          return added === 1;
        })
        .immediate(),
    /** Only what nobody can see yet. */
    removeManifest: (repository: string, digest: Digest) =>
      run("delete from manifest where repository = ? and digest = ? and visible = 0", repository, digest),
    manifest: (repository: string, digest: string) =>
      one<ManifestRow>(
        `select ${manifestColumns} from manifest where repository = ? and digest = ?`,
        repository,
        digest,
      ),
    referrers: (repository: string, subject: string) =>
      all<ManifestRow>(
        `select ${manifestColumns} from manifest where repository = ? and subject = ? order by created_at, digest`,
        repository,
        subject,
      ),

    // versions
    version: (repository: string, version: string) =>
      one<VersionRow>(
        `select ${versionColumns} from version where repository = ? and version = ?`,
        repository,
        version,
      ),
    /** Tags in byte order, after `last`, at most `limit`. */
    tags: (repository: string, last: string, limit: number) =>
      all<{ version: string }>(
        "select version from version where repository = ? and version > ? order by version limit ?",
        repository,
        last,
        limit,
      ).map((row) => row.version),
    versions: (repository: string) =>
      all<{ version: string; digest: Digest; publishedAt: string }>(
        "select version, digest, published_at as publishedAt from version where repository = ? order by published_at desc",
        repository,
      ),
    /** The commit point. False, and nothing written, when the version exists. */
    commitVersion: (entry: NewVersion): boolean =>
      sql
        .transaction(() => {
          const { repository, version } = entry.version;
          const others = all<{ version: string }>("select version from version where repository = ?", repository);
          if (others.some((other) => other.version === version)) return false;
          const v = entry.version;
          run(
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
          reveal(repository, entry.manifests, entry.blobs);
          const kernel = entry.kernel(others.map((other) => other.version));
          if (kernel !== null) putKernel(kernel.row, kernel.search);
          return true;
        })
        .immediate(),

    // kernels and search
    kernel: (repository: string) =>
      one<KernelRow>(`select ${kernelColumns} from kernel k where k.repository = ?`, repository),
    /** Newest first. `namespaces` are the private ones that the reader may see. */
    recent: (namespaces: readonly string[], limit: number) =>
      all<KernelRow>(
        `select ${kernelColumns} from kernel k join namespace n on n.name = k.namespace
         where n.visibility = 'public' or n.name in (select value from json_each(?))
         order by k.published_at desc, k.repository limit ?`,
        JSON.stringify(namespaces),
        limit,
      ),
    /** `match` is an FTS5 expression; better matches first. */
    search: (match: string, namespaces: readonly string[], limit: number) =>
      all<KernelRow>(
        `select ${kernelColumns} from kernel_search s join kernel k on k.id = s.rowid
         join namespace n on n.name = k.namespace
         where kernel_search match ? and (n.visibility = 'public' or n.name in (select value from json_each(?)))
         order by bm25(kernel_search, 8, 4, 4, 2, 1), k.repository limit ?`,
        match,
        JSON.stringify(namespaces),
        limit,
      ),
  };

  function reveal(repository: string, manifests: readonly Digest[], blobs: readonly Digest[]): void {
    for (const digest of manifests) {
      run("update manifest set visible = 1 where repository = ? and digest = ?", repository, digest);
    }
    for (const digest of blobs) {
      run("update repository_blob set visible = 1 where repository = ? and digest = ?", repository, digest);
    }
  }

  function putKernel(row: KernelRow, text: SearchText): void {
    run(
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
    const { id } = one<{ id: number }>("select id from kernel where repository = ?", row.repository)!;
    run("delete from kernel_search where rowid = ?", id);
    run(
      "insert into kernel_search (rowid, repository, summary, ops, backends, card) values (?, ?, ?, ?, ?, ?)",
      id,
      row.repository,
      text.summary,
      text.ops,
      text.backends,
      text.card,
    );
  }
}
