/**
 * What the registry needs of a database, and no more: parameters are `?`, rows are plain objects, times are RFC 3339
 * texts, booleans 0 and 1. Whatever is written outside of a transaction is one of its own. Transactions run one after
 * the other, also across processes and nodes; readers never wait for them. A commit returns when the disk has it.
 */
export interface Queries {
  one<T>(text: string, ...values: readonly Value[]): Promise<T | undefined>;
  all<T>(text: string, ...values: readonly Value[]): Promise<T[]>;
  /** Number of rows that changed. */
  run(text: string, ...values: readonly Value[]): Promise<number>;
}

export type Value = string | number | null | Buffer;

export interface Sql extends Queries {
  readonly dialect: "sqlite" | "postgres";
  /** All of `work` or nothing of it. `work` must use the queries that it is given, and wait for nothing else. */
  transaction<T>(work: (queries: Queries) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

/** The n-th migration of a dialect is the n-th file of its folder, by name. */
export interface Migration {
  readonly name: string;
  readonly text: string;
}
