import { existsSync } from "node:fs";
import { join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import { type DataOptions, openBlobs } from "../store/open.ts";
import { openPostgres } from "../store/postgres.ts";
import { createRecords } from "../store/records.ts";
import { openSqlite, type SqliteSql } from "../store/sqlite.ts";
import { type BackupManifest, backUp } from "./backup.ts";
import { type Health, healthOf } from "./health.ts";
import { type Checked, type Collected, collectGarbage, fsck, type Parts, scrub } from "./maintenance.ts";

export type { DataOptions } from "../store/open.ts";

/** What an operator does to the data itself, also while servers run on it. */
export interface Maintenance {
  gc(options?: { graceSeconds?: number; dryRun?: boolean }): Promise<Collected>;
  scrub(onBlob?: (checked: number) => void): ReturnType<typeof scrub>;
  fsck(options?: { repair?: boolean }): Promise<Checked>;
  health(): Promise<Health>;
  /** Of the embedded storage only. */
  backUp(target: string): Promise<BackupManifest>;
  close(): Promise<void>;
}

export async function openMaintenance(options: DataOptions & { now?: () => Date }): Promise<Maintenance> {
  if (options.database === undefined && !existsSync(join(options.dataFolder, "registry.sqlite"))) {
    fail("KL_REGISTRY_NO_DATA", `There is no registry in ${options.dataFolder}.`, { remedy: "Check --data." });
  }
  const sql = options.database === undefined ? openSqlite(options.dataFolder) : await openPostgres(options.database);
  const blobs = openBlobs({ ...options, sharesUploads: true }, { maxBlobBytes: 0 });
  const parts: Parts = { records: createRecords(sql), blobs, now: options.now ?? (() => new Date()) };
  return {
    gc: (wanted) => collectGarbage(parts, wanted),
    scrub: (onBlob) => scrub(parts, onBlob === undefined ? {} : { onBlob }),
    fsck: (wanted) => fsck(parts, wanted),
    health: () => healthOf(parts),
    async backUp(target) {
      if (sql.dialect !== "sqlite" || blobs.kind !== "folder") {
        fail("KL_REGISTRY_BACKUP_ELSEWHERE", "Only the embedded storage is backed up by this command.", {
          remedy: "Dump PostgreSQL first, then copy the bucket; docs/operations.md says how.",
        });
      }
      return backUp(parts, sql as SqliteSql, target);
    },
    async close() {
      await blobs.close?.();
      await sql.close();
    },
  };
}
