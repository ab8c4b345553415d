import { chmodSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import Database from "better-sqlite3";

export type Sql = Database.Database;

const migrationsFolder = join(import.meta.dirname, "migrations");

/**
 * Opens `registry.sqlite` and brings its schema up to date. A commit returns after the disk has it (synchronous FULL);
 * readers and one writer go side by side, across processes (WAL).
 */
export function openDatabase(folder: string): Sql {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // Private kernels and hashes of tokens lie here.
  chmodSync(folder, 0o700);
  const sql = new Database(join(folder, "registry.sqlite"));
  sql.pragma("busy_timeout = 5000");
  sql.pragma("journal_mode = WAL");
  sql.pragma("synchronous = FULL");
  sql.pragma("foreign_keys = ON");
  migrate(sql);
  return sql;
}

/** `user_version` counts the migration files that ran. */
function migrate(sql: Sql): void {
  const files = readdirSync(migrationsFolder)
    .filter((name) => name.endsWith(".sql"))
    .sort();
  sql
    .transaction(() => {
      const done = sql.pragma("user_version", { simple: true }) as number;
      if (done > files.length) {
        fail("KL_REGISTRY_DATA_TOO_NEW", `The data folder has schema ${done}, this server knows ${files.length}.`, {
          remedy: "Run the newer Kernlock that wrote it.",
        });
      }
      for (const file of files.slice(done)) sql.exec(readFileSync(join(migrationsFolder, file), "utf8"));
      sql.pragma(`user_version = ${files.length}`);
    })
    .immediate();
}
