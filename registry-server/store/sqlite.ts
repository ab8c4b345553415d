import { chmodSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { migrationsOf, pending } from "./migrations.ts";
import type { Queries, Sql, Value } from "./sql.ts";

export interface SqliteSql extends Sql {
  readonly dialect: "sqlite";
  /** A whole copy, taken while others read and write. */
  copyTo(path: string): Promise<void>;
}

/**
 * Opens `registry.sqlite` and brings its schema up to date. A commit returns after the disk has it (synchronous FULL);
 * readers and one writer go side by side, across processes (WAL). Reads have a connection of their own, so that they
 * see nothing of a transaction that is still open in this process.
 */
export function openSqlite(folder: string): SqliteSql {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  // Private kernels and hashes of tokens lie here.
  chmodSync(folder, 0o700);
  const path = join(folder, "registry.sqlite");
  const writer = connect(path);
  migrate(writer);
  const reader = connect(path);
  const reading = queriesOn(reader);
  const writing = queriesOn(writer);
  const remembered = remembering(reader);
  const group = oneCommitForMany(writer, remembered.changed);
  return {
    dialect: "sqlite",
    one: remembered.one,
    all: reading.all,
    run: (text, ...values) => group.add(() => writing.run(text, ...values)),
    transaction: (work) => group.add(() => work(writing)),
    async copyTo(target) {
      await reader.backup(target);
    },
    async close() {
      await group.end();
      reader.close();
      writer.close();
    },
  };
}

function connect(path: string): Database.Database {
  const connection = new Database(path);
  connection.pragma("busy_timeout = 5000");
  connection.pragma("journal_mode = WAL");
  connection.pragma("synchronous = FULL");
  connection.pragma("foreign_keys = ON");
  // KiB. The kernel keeps the file's pages anyway; a second copy here would be 16 MiB a connection.
  connection.pragma("cache_size = -4096");
  return connection;
}

function statementsOf(connection: Database.Database): (text: string) => Statement {
  const prepared = new Map<string, Statement>();
  return (text) => {
    const found = prepared.get(text) ?? connection.prepare<unknown[]>(text);
    prepared.set(text, found);
    return found;
  };
}

function queriesOn(connection: Database.Database): Queries {
  const statement = statementsOf(connection);
  return {
    one: async <T>(text: string, ...values: readonly Value[]) => statement(text).get(...values) as T | undefined,
    all: async <T>(text: string, ...values: readonly Value[]) => statement(text).all(...values) as T[],
    run: async (text, ...values) => statement(text).run(...values).changes,
  };
}

/** `user_version` counts the migration files that ran. */
function migrate(connection: Database.Database): void {
  const migrations = migrationsOf("sqlite");
  connection
    .transaction(() => {
      const done = connection.pragma("user_version", { simple: true }) as number;
      for (const { text } of pending(migrations, done)) connection.exec(text);
      connection.pragma(`user_version = ${migrations.length}`);
    })
    .immediate();
}

const mostRememberedBytes = 8 << 20;
const mostOfOneRow = 64 << 10;

/**
 * What was read is remembered until anybody commits anything: most of what is asked is asked again, and a look-up costs
 * two locks and a copy. Whether it still holds is asked once in each turn of the event loop and after each commit of
 * this process, so that no request is answered with what was true before it came.
 */
function remembering(reader: Database.Database) {
  const version = reader.prepare<unknown[]>("pragma data_version").pluck();
  const statement = statementsOf(reader);
  // By the question's text, which is the same string each time, and then by its values.
  const known = new Map<string, Map<string, unknown>>();
  let bytes = 0;
  let seen: unknown;
  let fresh = false;
  const forget = () => {
    known.clear();
    bytes = 0;
  };
  const check = () => {
    fresh = true;
    process.nextTick(() => {
      fresh = false;
    });
    const now = version.get();
    if (now !== seen) forget();
    seen = now;
  };
  return {
    one: async <T>(text: string, ...values: readonly Value[]): Promise<T | undefined> => {
      if (!fresh) check();
      const key = keyOf(values);
      const answers = known.get(text);
      const found = answers?.get(key);
      if (found !== undefined || answers?.has(key)) return found as T | undefined;
      const row = Object.freeze(statement(text).get(...values));
      const size = 200 + key.length + sizeOf(row);
      if (size > mostOfOneRow) return row as T | undefined;
      if (bytes + size > mostRememberedBytes) forget();
      bytes += size;
      known.set(text, (known.get(text) ?? new Map()).set(key, row));
      return row as T | undefined;
    },
    /** This process has committed something. */
    changed: () => {
      fresh = false;
    },
  };
}

/** Lengths stand before values, so that no two questions have the same key whatever they hold. */
function keyOf(values: readonly Value[]): string {
  let key = "";
  for (const value of values) {
    const part = Buffer.isBuffer(value) ? value.toString("latin1") : String(value);
    key += `\n${value === null ? "null" : typeof value} ${part.length} ${part}`;
  }
  return key;
}

function sizeOf(row: unknown): number {
  let size = 0;
  for (const value of Object.values(row ?? {}))
    size += typeof value === "string" || Buffer.isBuffer(value) ? value.length : 8;
  return size;
}

type Statement = Database.Statement<unknown[]>;

interface Waiting {
  readonly work: () => Promise<unknown>;
  readonly done: (value: unknown) => void;
  readonly failed: (error: unknown) => void;
}

const mostAtOnce = 64;

/**
 * Waiting for the disk is most of what a small transaction costs, so those that wait at the same moment share one
 * commit. Each is a savepoint: it fails by itself. Nobody hears of success before the disk has it.
 */
function oneCommitForMany(writer: Database.Database, committed: () => void) {
  const [begin, commit, save, release, undo] = (
    ["begin immediate", "commit", "savepoint one", "release one", "rollback to one"] as const
  ).map((text) => writer.prepare(text)) as [Statement, Statement, Statement, Statement, Statement];
  let waiting: Waiting[] = [];
  let running: Promise<void> | undefined;

  const together = async (works: readonly Waiting[]): Promise<void> => {
    const tell: (() => void)[] = [];
    try {
      begin.run();
      for (const { work, done, failed } of works) {
        save.run();
        try {
          const value = await work();
          tell.push(() => done(value));
        } catch (error) {
          // A full disk may have ended the transaction already, and with it what the others did.
          if (!writer.inTransaction) throw error;
          undo.run();
          tell.push(() => failed(error));
        }
        release.run();
      }
      commit.run();
      committed();
    } catch (error) {
      if (writer.inTransaction) writer.exec("rollback");
      for (const { failed } of works) failed(error);
      return;
    }
    for (const one of tell) one();
  };
  const drain = async (): Promise<void> => {
    while (waiting.length > 0) {
      // Whatever arrived while the last commit waited for the disk comes along.
      await new Promise((turn) => setImmediate(turn));
      const works = waiting.slice(0, mostAtOnce);
      waiting = waiting.slice(mostAtOnce);
      await together(works);
    }
    running = undefined;
  };
  return {
    add: <T>(work: () => Promise<T>): Promise<T> =>
      new Promise<T>((done, failed) => {
        waiting.push({ work, done: done as Waiting["done"], failed });
        running ??= drain();
      }),
    /** Resolves when nothing waits any more. */
    end: async () => {
      while (running !== undefined) await running;
    },
  };
}
