import { type Admin, type DataOptions, openAdmin } from "@kernlock/registry-server";
import type { Command } from "commander";
import { usage } from "../../errors.ts";

export interface DataFlags {
  readonly data: string;
  readonly database?: string;
  readonly s3?: string;
  readonly s3Public?: string;
  readonly s3Region: string;
}

/** Where the data is. Passwords come from the environment: a command line can be read by others. */
export function withData(target: Command): Command {
  return target
    .requiredOption("--data <folder>", "folder of the registry's data")
    .option(
      "--database <url>",
      "PostgreSQL, e.g. postgres://kernlock@db/kernlock (password: PGPASSWORD; default: SQLite)",
    )
    .option("--s3 <url>", "S3-compatible store, e.g. https://s3.example.org/bucket/prefix (default: the folder)")
    .option("--s3-public <url>", "the store's address for clients, where it is another one")
    .option("--s3-region <name>", "its region", "us-east-1");
}

export function dataOptions(flags: DataFlags): DataOptions {
  const database = flags.database ?? process.env.KERNLOCK_DATABASE;
  return {
    dataFolder: flags.data,
    ...(database === undefined ? {} : { database }),
    ...(flags.s3 === undefined ? {} : { s3: s3Options(flags, flags.s3) }),
  };
}

function s3Options(flags: DataFlags, address: string): NonNullable<DataOptions["s3"]> {
  const { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey } = process.env;
  if (!accessKey || !secretKey) usage("--s3 needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.");
  if (!URL.canParse(address)) usage(`--s3 takes an address with a bucket, not "${address}".`);
  const url = new URL(address);
  const [bucket = "", ...prefix] = url.pathname.split("/").filter((part) => part !== "");
  if (bucket === "") usage("--s3 takes an address with a bucket, like https://s3.example.org/bucket.");
  return {
    endpoint: url.origin,
    region: flags.s3Region,
    bucket,
    accessKey,
    secretKey,
    ...(prefix.length === 0 ? {} : { prefix: `${prefix.join("/")}/` }),
    ...(flags.s3Public === undefined ? {} : { publicEndpoint: flags.s3Public }),
  };
}

export async function withAdmin<T>(flags: DataFlags, use: (admin: Admin) => Promise<T>): Promise<T> {
  const admin = await openAdmin(dataOptions(flags));
  try {
    return await use(admin);
  } finally {
    await admin.close();
  }
}

/** A whole number within bounds, or wrong usage. */
export function wholeNumber(flag: string, text: string, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value > most) usage(`${flag} takes 0 to ${most}, not "${text}".`);
  return value;
}

/** `30s`, `15m`, `24h`, `7d` in seconds. */
export function seconds(flag: string, text: string): number {
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  if (match === null) return usage(`${flag} takes a time like 30s, 15m, 24h or 7d, not "${text}".`);
  return Number(match[1]) * { s: 1, m: 60, h: 3600, d: 86_400 }[match[2] as "s" | "m" | "h" | "d"];
}
