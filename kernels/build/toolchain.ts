import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { realpath } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { type Digest, fail } from "../format/index.ts";
import { runProgram } from "./process.ts";

export interface Tool {
  readonly name: string;
  readonly digest: Digest;
}

export interface Toolchain {
  /** What to start. */
  readonly compiler: string;
  /** `g++ (Debian 12.2.0-14) 12.2.0` */
  readonly version: string;
  readonly target: string;
  /** The programs that really run: driver, cc1plus, as, collect2, ld. */
  readonly tools: readonly Tool[];
}

/** The environment of compiler calls: nothing of the caller's but where programs are found. */
export function compilerEnvironment(temporary?: string): Record<string, string> {
  return {
    PATH: process.env.PATH ?? "/usr/bin:/bin",
    LC_ALL: "C",
    SOURCE_DATE_EPOCH: String(sourceDateEpoch),
    ...(temporary === undefined ? {} : { TMPDIR: temporary }),
  };
}

/** Dates that a compiler may see: 2000-01-01. */
export const sourceDateEpoch = 946_684_800;

let known: Promise<Toolchain> | undefined;

/** g++ and the programs that it calls, by digest. Throws `KL_BUILD_COMPILER`. */
export function findToolchain(): Promise<Toolchain> {
  known ??= identify().catch((error) => {
    known = undefined;
    throw error;
  });
  return known;
}

async function identify(): Promise<Toolchain> {
  const ask = async (...args: string[]): Promise<string> => {
    const run = await runProgram("g++", args, { env: compilerEnvironment(), timeoutMs: 30_000 });
    if (run.status !== 0) {
      return fail("KL_BUILD_COMPILER", "No g++ answers on this machine.", { remedy: "Install g++ 12 or newer." });
    }
    return run.stdout.trim();
  };
  const tool = async (name: string, path: string): Promise<Tool> => ({
    name,
    digest: await digestFile(await findProgram(path)),
  });
  const version = (await ask("--version")).split("\n", 1)[0]!;
  const tools = [await tool("g++", "g++")];
  for (const name of ["cc1plus", "as", "collect2", "ld"])
    tools.push(await tool(name, await ask(`-print-prog-name=${name}`)));
  return { compiler: "g++", version, target: await ask("-dumpmachine"), tools };
}

/** Real path of a program. Throws `KL_BUILD_COMPILER`. */
export async function findProgram(program: string): Promise<string> {
  const places = isAbsolute(program)
    ? [program]
    : (process.env.PATH ?? "").split(delimiter).map((p) => join(p, program));
  for (const place of places) {
    const path = await realpath(place).catch(() => undefined);
    if (path !== undefined) return path;
  }
  return fail("KL_BUILD_COMPILER", `The compiler's program ${program} cannot be found.`, {
    remedy: "Install g++ and binutils.",
  });
}

export async function digestFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return `sha256:${hash.digest("hex")}`;
}
