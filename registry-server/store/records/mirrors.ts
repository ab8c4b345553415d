/** Mirrors, the repositories that are theirs, and what their upstreams said about versions. */
import { covers, type Mirror, overlap, readSettings } from "../../mirror/mirrors.ts";
import type { ContentDigest } from "../digests.ts";
import type { Queries, Sql } from "../sql.ts";
import { type AuditEntry, appendAudit } from "./audit.ts";

type MirrorRow = Omit<Mirror, "settings"> & { readonly settings: string };
const columns = `id, namespace, pattern, origin, prefix, settings, created_at as "createdAt"`;
const mirrorOf = (row: MirrorRow): Mirror => ({ ...row, settings: readSettings(row.settings) });

/** Manifests that are looked through for one blob. */
const maxNaming = 20;

export function mirrorRecords(sql: Sql) {
  return {
    mirrors: async () =>
      (await sql.all<MirrorRow>(`select ${columns} from mirror order by namespace, pattern`)).map(mirrorOf),
    /**
     * Nothing is declared where another mirror's names would be among its own, or packages lie that did not come from a
     * mirror; `adopt` says that those came from this upstream.
     */
    addMirror: (
      mirror: Mirror,
      adopt: boolean,
      audit: AuditEntry,
    ): Promise<{ overlaps?: string; local?: readonly string[] }> =>
      sql.transaction(async (queries) => {
        const others = await queries.all<{ pattern: string }>("select pattern from mirror");
        const overlaps = others.find(({ pattern }) => overlap(pattern, mirror.pattern))?.pattern;
        if (overlaps !== undefined) return { overlaps };
        const local = (await repositoriesOf(queries, mirror.namespace)).filter((name) => covers(mirror.pattern, name));
        if (local.length > 0 && !adopt) return { local };
        await queries.run(
          "insert into mirror (id, namespace, pattern, origin, prefix, settings, created_at) values (?, ?, ?, ?, ?, ?, ?)",
          mirror.id,
          mirror.namespace,
          mirror.pattern,
          mirror.origin,
          mirror.prefix,
          JSON.stringify(mirror.settings),
          mirror.createdAt,
        );
        for (const name of local) await claim(queries, name, mirror.id, mirror.createdAt);
        await appendAudit(queries, { ...audit, details: { ...audit.details, adopted: local } });
        return {};
      }),
    updateMirror: (id: string, settings: Mirror["settings"], audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        const text = JSON.stringify(settings);
        const changed = (await queries.run("update mirror set settings = ? where id = ?", text, id)) === 1;
        if (changed) await appendAudit(queries, audit);
        return changed;
      }),
    /** What was mirrored stays, and is the namespace's own from then on. */
    removeMirror: (id: string, audit: AuditEntry) =>
      sql.transaction(async (queries) => {
        await queries.run("delete from mirrored_repository where mirror = ?", id);
        await queries.run("delete from upstream_state where mirror = ?", id);
        const removed = (await queries.run("delete from mirror where id = ?", id)) === 1;
        if (removed) await appendAudit(queries, audit);
        return removed;
      }),
    /** Makes a repository the mirror's. False when something lies there that is not its own. */
    claimRepository: (repository: string, mirror: string, at: string) =>
      sql.transaction(async (queries) => {
        const found = await queries.one<{ mirror: string }>(
          "select mirror from mirrored_repository where repository = ?",
          repository,
        );
        if (found !== undefined) return found.mirror === mirror;
        if ((await queries.one("select 1 as one from mirror where id = ?", mirror)) === undefined) return false;
        const own = "select 1 as one from manifest where repository = ? limit 1";
        if ((await queries.one(own, repository)) !== undefined) return false;
        await claim(queries, repository, mirror, at);
        return true;
      }),
    mirroredRepositories: async (mirror: string) =>
      (
        await sql.all<{ repository: string }>(
          "select repository from mirrored_repository where mirror = ? order by repository",
          mirror,
        )
      ).map((row) => row.repository),

    /** Visible manifests that name a blob. */
    naming: async (repository: string, digest: ContentDigest) =>
      (
        await sql.all<{ bytes: Buffer }>(
          `select m.bytes from reference r join manifest m on m.repository = r.repository and m.digest = r.manifest
           where r.repository = ? and r.digest = ? and m.visible = 1 limit ${maxNaming}`,
          repository,
          digest,
        )
      ).map((row) => row.bytes),
    /** A blob that came after the manifest which names it. */
    showNamedBlob: (repository: string, digest: ContentDigest) =>
      sql.run(
        `update repository_blob set visible = 1 where repository = ? and digest = ? and visible = 0 and exists
           (select 1 from reference r join manifest m on m.repository = r.repository and m.digest = r.manifest
            where r.repository = repository_blob.repository and r.digest = repository_blob.digest and m.visible = 1)`,
        repository,
        digest,
      ),

    upstreamStates: (mirror: string) =>
      sql.all<{ repository: string; version: string; state: "yanked" | "quarantined" }>(
        "select repository, version, state from upstream_state where mirror = ?",
        mirror,
      ),
    /** Null: it says nothing any more. */
    noteUpstreamState: async (row: { mirror: string; repository: string; version: string; state: string | null }) => {
      const { mirror, repository, version, state } = row;
      if (state === null) {
        const text = "delete from upstream_state where mirror = ? and repository = ? and version = ?";
        await sql.run(text, mirror, repository, version);
        return;
      }
      await sql.run(
        `insert into upstream_state (mirror, repository, version, state) values (?, ?, ?, ?)
         on conflict (mirror, repository, version) do update set state = excluded.state`,
        mirror,
        repository,
        version,
        state,
      );
    },
    versionStateBy: (repository: string, version: string) =>
      sql.one<{ state: string; by: string | null }>(
        `select state, state_by as "by" from version where repository = ? and version = ?`,
        repository,
        version,
      ),
  };
}

async function repositoriesOf(queries: Queries, namespace: string): Promise<string[]> {
  const rows = await queries.all<{ repository: string }>(
    "select distinct repository from manifest where substr(repository, 1, ?) = ? order by repository",
    namespace.length + 1,
    `${namespace}/`,
  );
  return rows.map((row) => row.repository);
}

async function claim(queries: Queries, repository: string, mirror: string, at: string): Promise<void> {
  await queries.run(
    `insert into mirrored_repository (repository, mirror, since) values (?, ?, ?)
     on conflict (repository) do update set mirror = excluded.mirror, since = excluded.since`,
    repository,
    mirror,
    at,
  );
}
