import pg from "pg";
import { migrationsOf, pending } from "./migrations.ts";
import type { Queries, Sql, Value } from "./sql.ts";

/** Any number that only this registry takes as an advisory lock. */
const writerLock = 7_420_742;

/**
 * Opens a database by its URL (`postgres://user:password@host/name`) and brings its schema up to date. Transactions
 * take one advisory lock, so that all nodes write one after the other, as SQLite does; a node that dies lets go of it
 * with its connection.
 */
export async function openPostgres(url: string): Promise<Sql> {
  const pool = new pg.Pool({ connectionString: url, max: 10, connectionTimeoutMillis: 10_000 });
  // An idle connection that breaks is replaced at its next use; without a listener the process would end.
  pool.on("error", () => {});
  const transaction = async <T>(work: (queries: Queries) => Promise<T>): Promise<T> => {
    const client = await pool.connect();
    let broken: Error | undefined;
    try {
      await client.query("begin");
      await client.query("select pg_advisory_xact_lock($1)", [writerLock]);
      const result = await work(queriesOn(client));
      await client.query("commit");
      return result;
    } catch (error) {
      await client.query("rollback").catch((failure: Error) => {
        broken = failure;
      });
      throw error;
    } finally {
      client.release(broken);
    }
  };
  await transaction(async (queries) => {
    await queries.run("create table if not exists schema_version (done integer not null)");
    const done = (await queries.one<{ done: number }>("select done from schema_version"))?.done ?? 0;
    const migrations = migrationsOf("postgres");
    for (const { text } of pending(migrations, done)) await queries.run(text);
    await queries.run("delete from schema_version");
    await queries.run("insert into schema_version (done) values (?)", migrations.length);
  }).catch(async (error) => {
    await pool.end();
    throw error;
  });
  return { dialect: "postgres", ...queriesOn(pool), transaction, close: () => pool.end() };
}

function queriesOn(connection: pg.Pool | pg.PoolClient): Queries {
  const query = (text: string, values: readonly Value[]) =>
    values.length === 0 ? connection.query(text) : connection.query(numbered(text), [...values]);
  return {
    one: async <T>(text: string, ...values: readonly Value[]) => (await query(text, values)).rows[0] as T | undefined,
    all: async <T>(text: string, ...values: readonly Value[]) => (await query(text, values)).rows as T[],
    run: async (text, ...values) => (await query(text, values)).rowCount ?? 0,
  };
}

const numberedTexts = new Map<string, string>();

/** `?` becomes `$1`, `$2`, …; no text of ours has a question mark inside of quotes. */
function numbered(text: string): string {
  let found = numberedTexts.get(text);
  if (found === undefined) {
    let n = 0;
    found = text.replaceAll("?", () => `$${++n}`);
    numberedTexts.set(text, found);
  }
  return found;
}

// Sizes are bigint there, and safe integers here.
pg.types.setTypeParser(pg.types.builtins.INT8, (value) => Number(value));
