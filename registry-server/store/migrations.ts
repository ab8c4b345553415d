/**
 * Migrations only ever add: columns have defaults, tables are new, nothing that the release before reads is dropped or
 * renamed (the one exception, from before the first release, is the token table of 0002). So nodes of two neighbouring
 * releases can share a database while an update rolls; what became useless goes one release later.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fail } from "@kernlock/kernels/format";
import type { Migration, Sql } from "./sql.ts";

export function migrationsOf(dialect: Sql["dialect"]): Migration[] {
  const folder = join(import.meta.dirname, "migrations", dialect);
  return readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
}

/** Those that are still to run, given how many ran. KL_REGISTRY_DATA_TOO_NEW. */
export function pending(migrations: readonly Migration[], done: number): readonly Migration[] {
  if (done > migrations.length) {
    fail("KL_REGISTRY_DATA_TOO_NEW", `The data has schema ${done}, this server knows ${migrations.length}.`, {
      remedy: "Run the newer Kernlock that wrote it.",
    });
  }
  return migrations.slice(done);
}
