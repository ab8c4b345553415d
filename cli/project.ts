import { existsSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fail } from "@kernlock/kernels/format";

/** The files a project keeps beside each other. */
export interface Project {
  readonly folder: string;
  readonly manifest: string;
  readonly lock: string;
  readonly policy: string;
  readonly cache: string;
}

export interface ProjectOptions {
  readonly lock?: string | undefined;
  readonly policy?: string | undefined;
  readonly cache?: string | undefined;
}

const lockName = "kernels.lock";
const manifestName = "kernels.json";

/** The project that `--lock` names, else the nearest one in the current folder or above it. */
export function findProject(options: ProjectOptions, from = process.cwd()): Project {
  const folder = options.lock === undefined ? nearest(from) : dirname(resolve(from, options.lock));
  return {
    folder,
    manifest: join(folder, manifestName),
    lock: options.lock === undefined ? join(folder, lockName) : resolve(from, options.lock),
    policy: options.policy === undefined ? join(folder, "kernels.policy.yaml") : resolve(from, options.policy),
    cache: options.cache === undefined ? defaultCache(folder) : resolve(from, options.cache),
  };
}

function nearest(from: string): string {
  for (let folder = resolve(from); ; folder = dirname(folder)) {
    if (existsSync(join(folder, lockName)) || existsSync(join(folder, manifestName))) return folder;
    if (folder === dirname(folder)) break;
  }
  // A portable folder brings its own.
  const brought = process.env.KERNLOCK_PROJECT;
  if (brought !== undefined && existsSync(join(brought, lockName))) return resolve(brought);
  return fail("KL_CLI_NO_PROJECT", `no ${lockName} or ${manifestName} in ${resolve(from)} or above it`, {
    remedy: "Run the command in a project's folder, or name a lock with --lock.",
  });
}

/** A project's own `cache` folder where it has one (an air-gapped or shared checkout), else the user's. */
function defaultCache(folder: string): string {
  const own = join(folder, "cache");
  if (existsSync(own) && statSync(own).isDirectory()) return own;
  const root = process.env.KERNLOCK_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kernlock");
  return resolve(root);
}

/** The bytes of a file of the project, or a coded refusal that names the file and how it comes to be. */
export function readProjectFile(path: string, remedy: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    return fail("KL_CLI_FILE", `cannot read ${path} (${(error as NodeJS.ErrnoException).code ?? "unknown error"})`, {
      remedy,
      cause: error,
    });
  }
}
