/**
 * The few questions that the web pages ask, without waiting: a connection of its own to the embedded database, which
 * answers at once. Everything else asks `Records`, which also speaks to a database elsewhere.
 */
import { join } from "node:path";
import Database, { type Statement } from "better-sqlite3";
import type { Namespace } from "../admin.ts";
import type { ContentDigest } from "./digests.ts";
import {
  type KernelRow,
  kernelColumns,
  listable,
  sqliteMatch,
  sqliteSearch,
  type VersionRow,
  versionColumns,
} from "./records/versions.ts";

export type { KernelRow } from "./records/versions.ts";

export interface Catalog {
  namespace(name: string): Namespace | undefined;
  /** Undefined for a quarantined version too. */
  version(repository: string, version: string): VersionRow | undefined;
  versions(repository: string): { version: string; digest: ContentDigest; publishedAt: string }[];
  /** Undefined when all of its versions are quarantined. */
  kernel(repository: string): KernelRow | undefined;
  recent(reader: string, limit: number): KernelRow[];
  search(words: readonly string[], reader: string, limit: number): KernelRow[];
  close(): void;
}

export function openCatalog(folder: string): Catalog {
  const sql = new Database(join(folder, "registry.sqlite"), { readonly: true });
  const prepared = new Map<string, Statement<unknown[]>>();
  const statement = (text: string) => {
    const found = prepared.get(text) ?? sql.prepare<unknown[]>(text);
    prepared.set(text, found);
    return found;
  };
  const one = <T>(text: string, ...values: unknown[]) => statement(text).get(...values) as T | undefined;
  const all = <T>(text: string, ...values: unknown[]) => statement(text).all(...values) as T[];
  return {
    namespace: (name) =>
      one(
        "select name, visibility, policy, kind, deletion, created_at as createdAt from namespace where name = ?",
        name,
      ),
    version: (repository, version) =>
      one(
        `select ${versionColumns} from version where repository = ? and version = ? and state <> 'quarantined'`,
        repository,
        version,
      ),
    versions: (repository) =>
      all(
        `select version, digest, published_at as publishedAt from version where repository = ? and state <> 'quarantined'
         order by published_at desc`,
        repository,
      ),
    kernel: (repository) =>
      one(
        `select ${kernelColumns} from kernel k join namespace n on n.name = k.namespace
         where k.repository = ? and ${listable}`,
        repository,
        "*",
        "*",
      ),
    recent: (reader, limit) =>
      all(
        `select ${kernelColumns} from kernel k join namespace n on n.name = k.namespace
         where ${listable} order by k.published_at desc, k.repository limit ?`,
        reader,
        reader,
        limit,
      ),
    search: (words, reader, limit) => all(sqliteSearch, sqliteMatch(words), reader, reader, limit),
    close: () => void sql.close(),
  };
}
