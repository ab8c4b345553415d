import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openModel } from "@kernlock/engine/model";
import { fail, KernlockError } from "@kernlock/kernels/format";
import {
  type Change,
  checkLockMatches,
  createLock,
  diffLocks,
  fetchLocked,
  formatLock,
  type Lock,
  type LockedModel,
  openCache,
  parseLock,
  parseManifest,
  pinModel,
} from "@kernlock/loader";
import type { Command } from "commander";
import { changesText } from "../changes.ts";
import { command, withProject } from "../command.ts";
import { exit, usage } from "../errors.ts";
import { feedNotes, fetchFeeds, rememberFeeds } from "../feeds.ts";
import { nothingLocked, readPolicy } from "../locked.ts";
import { bytesText, type Output } from "../output.ts";
import { findProject, type Project, type ProjectOptions, readProjectFile } from "../project.ts";
import { type RegistryFlags, readText, registryClient, withRegistry } from "../registry-access.ts";
import { versionNotes } from "../version-states.ts";

interface Options extends ProjectOptions, RegistryFlags {
  readonly update?: boolean;
  readonly check?: boolean;
  readonly frozen?: boolean;
  /** A folder or name; false with --no-model. */
  readonly model?: string | false;
}

export function lockCommand(): Command {
  return command<Options>(
    "lock",
    "resolve kernels.json, verify and judge what it names, and write kernels.lock",
    (target) =>
      withRegistry(withProject(target))
        .option("--update", "take the newest versions that satisfy the ranges")
        .option("--model <dir>", "pin the files of this model too")
        .option("--no-model", "pin no model any more")
        .option("--check", "write nothing; fail if locking again would change the lock")
        .option("--frozen", "with --check: ask no registry, only compare lock, kernels.json and policy"),
    async ({ output, options }) => {
      if (options.frozen === true && options.check !== true) usage("--frozen goes with --check.");
      const project = findProject(options);
      return options.check === true ? check(project, options, output) : write(project, options, output);
    },
  );
}

async function write(project: Project, options: Options, output: Output): Promise<number> {
  const previous = existsSync(project.lock) ? parseLock(readProjectFile(project.lock, "")) : undefined;
  const model = pinned(options, output);
  const made = await resolve(project, options, output, project.cache, previous, model);
  const registry = registryClient(options, made.lock.registry.origin);
  try {
    const fetched = await fetchLocked({
      lock: made.lock,
      manifest: made.manifest,
      cache: openCache(project.cache),
      registry,
      onProgress: (p) => output.progress(`fetch ${p.doneFiles}/${p.totalFiles} ${p.what}`),
    });
    // Written beside the old one and renamed: a lock is whole or untouched.
    writeFileSync(`${project.lock}.new`, made.text);
    renameSync(`${project.lock}.new`, project.lock);
    rememberFeeds(made.policy, project.policy, made.lock.advisories ?? {});
    const { changes, trustChanged, missingVariants } = made;
    output.result({ lock: project.lock, changes, trust_changed: trustChanged, missing_variants: missingVariants }, () =>
      [
        `${project.lock}: ${Object.keys(made.lock.kernels).length} kernels, ${fetched.fetchedFiles} files fetched (${bytesText(fetched.fetchedBytes)})\n`,
        ...(Object.keys(made.lock.kernels).length === 0 ? [`${nothingLocked}\n`] : []),
        changesText(changes),
        ...missingVariants.map((text) => `  not offered: ${text}\n`),
      ].join(""),
    );
    return trustChanged && previous !== undefined ? exit.trustChanged : exit.done;
  } finally {
    await registry.close();
  }
}

/** For CI: the lock answers kernels.json and policy, and locking again would write the very same bytes. */
async function check(project: Project, options: Options, output: Output): Promise<number> {
  if (options.update === true || options.model !== undefined) usage("--check goes with neither --update nor --model.");
  const bytes = readProjectFile(project.lock, "Run `kernlock lock` first.");
  const lock = parseLock(bytes);
  const manifest = parseManifest(readProjectFile(project.manifest, "Write a kernels.json (docs/lock.md)."));
  const problems = checkLockMatches(manifest, lock);
  const policy = readPolicy(project);
  if (lock.policy !== policy.digest) {
    problems.push(
      new KernlockError("KL_LOCK_POLICY", "The lock was made under another policy.", {
        remedy: "Run `kernlock lock` under this policy and review what it changes.",
        details: { pinned: lock.policy, found: policy.digest },
      }),
    );
  }
  if (formatLock(lock) !== bytes.toString("utf8")) {
    problems.push(
      new KernlockError("KL_LOCK_CHECK", "The lock was edited: it is not in the form in which it is written.", {
        remedy: "Run `kernlock lock`.",
      }),
    );
  }
  const [first] = problems;
  if (first) throw first;
  const changes = options.frozen === true ? [] : await remade(project, options, output, lock);
  const trust = changes.some((change) => change.trust);
  if (changes.length > 0 && !trust) {
    fail("KL_LOCK_CHECK", "Locking again would change the lock.", {
      remedy: "Run `kernlock lock` and review what it changes.",
      details: { changes },
    });
  }
  output.result({ ok: changes.length === 0, changes, trust_changed: trust }, () =>
    changes.length > 0
      ? changesText(changes)
      : `${project.lock} is what locking again would write\n${Object.keys(lock.kernels).length === 0 ? `${nothingLocked}\n` : ""}`,
  );
  return trust ? exit.trustChanged : exit.done;
}

/** Locks again into a cache that is thrown away; what was locked may change nothing but by being another lock. */
async function remade(project: Project, options: Options, output: Output, lock: Lock): Promise<readonly Change[]> {
  const scratch = mkdtempSync(join(tmpdir(), "kernlock-check-"));
  try {
    const { lock: again } = await resolve(project, options, output, join(scratch, "cache"), lock, undefined);
    const changes = diffLocks(lock, again);
    // A difference that the words do not name is still one.
    if (changes.length === 0 && formatLock(again) !== formatLock(lock)) {
      return [{ kernel: null, what: "content", trust: true, before: "this lock", after: "locking again" }];
    }
    return changes;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function resolve(
  project: Project,
  options: Options,
  output: Output,
  cache: string,
  previous: Lock | undefined,
  model: LockedModel | null | undefined,
) {
  const manifest = parseManifest(readProjectFile(project.manifest, "Write a kernels.json (docs/lock.md)."));
  // What did not come stands as a warning; whether it matters, the judgement below says.
  const ca = options.ca === undefined ? undefined : readText(options.ca);
  const feeds = await fetchFeeds(readPolicy(project), { now: new Date(), ca });
  for (const line of feedNotes(feeds)) output.note(line);
  const policy = readPolicy(project);
  const registry = registryClient(options, manifest.registry);
  try {
    const made = await createLock({
      manifest,
      policy,
      registry,
      cache: openCache(cache),
      now: new Date(),
      ...(previous === undefined ? {} : { previous }),
      update: options.update === true,
      avoid: async (name) => new Set((await versionNotes(manifest.registry, name, options)).keys()),
      ...(model === undefined ? {} : { model }),
    });
    return { ...made, manifest, policy };
  } finally {
    await registry.close();
  }
}

function pinned({ model }: Options, output: Output): LockedModel | null | undefined {
  if (model === undefined) return undefined;
  if (model === false) return null;
  const opened = openModel(model);
  try {
    return pinModel(opened.folder, opened.name, (done, total) =>
      output.progress(`model ${bytesText(done)} of ${bytesText(total)}`),
    );
  } finally {
    opened.close();
  }
}
