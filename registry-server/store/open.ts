/** Where a registry's data is, and how it is opened. */
import { join } from "node:path";
import type { BlobStore, StoreLimits } from "./blobs.ts";
import { folderStore } from "./folder-store.ts";
import { openPostgres } from "./postgres.ts";
import { createRecords, type Records } from "./records.ts";
import type { S3Options } from "./s3-client.ts";
import { s3Store } from "./s3-store.ts";
import { openSqlite } from "./sqlite.ts";

export interface DataOptions {
  /** Holds `registry.sqlite`, `blobs/<algorithm>/<hex>` and `uploads/`; with both others set, only the last. */
  readonly dataFolder: string;
  /** `postgres://…`: facts lie there and not in `registry.sqlite`. */
  readonly database?: string;
  /** Bytes lie there and not in `blobs/`. */
  readonly s3?: S3Options;
}

export async function openRecords({ dataFolder, database }: DataOptions): Promise<Records> {
  return createRecords(database === undefined ? openSqlite(dataFolder) : await openPostgres(database));
}

/** `sharesUploads`: a server may be running, whose unfinished uploads are left alone. */
export function openBlobs(options: DataOptions & { sharesUploads?: boolean }, limits: StoreLimits): BlobStore {
  const { dataFolder, s3, sharesUploads: shared = false } = options;
  return s3 === undefined
    ? folderStore(dataFolder, { ...limits, shared })
    : s3Store(s3, join(dataFolder, "uploads"), { ...limits, shared });
}
