/** Every storage that the registry can be configured with, for suites that must give the same on each. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DataOptions } from "@kernlock/registry-server";
import { onTestFinished } from "vitest";
import { hasPostgres, startPostgres, type TestPostgres } from "./services/postgres.ts";
import { hasS3, startS3, type TestS3 } from "./services/s3.ts";

export interface Driver {
  readonly name: string;
  /** Why it cannot be tested here, or undefined. */
  readonly missing: string | undefined;
  /** Empty storage, gone when the test ends. */
  open(): Promise<DataOptions>;
  close(): Promise<void>;
}

export const sqliteFolder: Driver = {
  name: "SQLite and a folder",
  missing: undefined,
  open: async () => ({ dataFolder: newFolder() }),
  close: async () => {},
};

export function scaleOut(): Driver {
  let started: Promise<[TestPostgres, TestS3]> | undefined;
  return {
    name: "PostgreSQL and S3",
    missing: !hasPostgres
      ? "needs PostgreSQL's programs"
      : !hasS3
        ? "needs versitygw: npm run tools:registry"
        : undefined,
    async open() {
      started ??= Promise.all([startPostgres(), startS3()]);
      const [postgres, s3] = await started;
      return { dataFolder: newFolder(), database: await postgres.database(), s3: s3.bucket() };
    },
    async close() {
      for (const service of (await started) ?? []) await service.stop();
    },
  };
}

export const title = (driver: Driver): string =>
  driver.missing === undefined ? driver.name : `${driver.name} (${driver.missing})`;

export function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "kernlock-registry-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
