/** A PostgreSQL server of its own for a test: an empty cluster on a free port, removed afterwards. */
import { execFile } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const folders = [16, 15, 14].map((version) => `/usr/lib/postgresql/${version}/bin`);
const binaries = folders.find((folder) => existsSync(join(folder, "initdb")));

export const hasPostgres = binaries !== undefined;

export interface TestPostgres {
  /** URL of a new, empty database. */
  database(): Promise<string>;
  stop(): Promise<void>;
}

/** initdb refuses to run as root. */
const nobody = 65_534;
const asUser = (program: string, args: readonly string[]) =>
  process.getuid?.() === 0
    ? run("runuser", ["-u", "nobody", "--", program, ...args], { cwd: "/" })
    : run(program, args, { cwd: "/" });

export async function startPostgres(): Promise<TestPostgres> {
  const bin = (name: string) => join(binaries!, name);
  const folder = mkdtempSync(join(tmpdir(), "klpg-"));
  chmodSync(folder, 0o755);
  if (process.getuid?.() === 0) chownSync(folder, nobody, nobody);
  const data = join(folder, "data");
  await asUser(bin("initdb"), ["-D", data, "-A", "trust", "-U", "kl", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]);
  const port = await freePort();
  const settings = `-c listen_addresses=127.0.0.1 -p ${port} -c unix_socket_directories= -c fsync=off -c synchronous_commit=off`;
  await asUser(bin("pg_ctl"), ["-D", data, "-w", "-s", "-o", settings, "-l", join(folder, "log"), "start"]);
  let count = 0;
  return {
    async database() {
      const name = `kl${++count}`;
      await run(bin("createdb"), ["-h", "127.0.0.1", "-p", String(port), "-U", "kl", name]);
      return `postgres://kl@127.0.0.1:${port}/${name}`;
    },
    async stop() {
      await asUser(bin("pg_ctl"), ["-D", data, "-w", "-s", "-m", "immediate", "stop"]).catch(() => {});
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export function freePort(): Promise<number> {
  return new Promise((done, failed) => {
    const server = createServer().on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address !== null ? done(address.port) : failed(new Error())));
    });
  });
}
