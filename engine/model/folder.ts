import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
  type Stats,
  statSync,
} from "node:fs";
import { homedir } from "node:os";
import { basename, dirname, join, resolve, sep } from "node:path";
import { fail, KernlockError } from "@kernlock/kernels/format";
import type { ModelFile } from "./types.ts";

/** A model folder. `blobs` is the folder that its symbolic links may lead into: only a Hugging Face cache has one. */
export interface ModelFolder {
  readonly name: string;
  readonly path: string;
  readonly blobs: string | null;
}

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Where a model lies: a folder, or `organisation/name` (with `@revision`) in the local Hugging Face cache.
 *
 * @throws KL_MODEL_NOT_FOUND
 */
export function locateModel(folderOrName: string, env: Env): ModelFolder {
  const path = resolve(folderOrName);
  if (isFolder(path)) {
    const real = realpathSync(path);
    return { name: basename(path), path: real, blobs: blobsOf(real) };
  }
  const match = /^([A-Za-z0-9][\w.-]*)\/([A-Za-z0-9][\w.-]*)(?:@([\w.-]+))?$/.exec(folderOrName);
  if (match === null) return notFound(folderOrName, `There is no folder ${path}.`);
  const [, organisation, name, revision = "main"] = match;
  const cached = join(hubCache(env), `models--${organisation}--${name}`);
  // A cache may lie behind a link of its owner's; links inside of it are another matter.
  const repo = isFolder(cached) ? realpathSync(cached) : null;
  const commit = repo === null || /^[0-9a-f]{40}$/.test(revision) ? revision : readRef(repo, revision);
  if (repo === null || commit === null || !isFolder(join(repo, "snapshots", commit))) {
    return notFound(folderOrName, `There is no folder ${path}, and no revision ${revision} of it in ${hubCache(env)}.`);
  }
  const snapshot = realpathSync(join(repo, "snapshots", commit));
  return { name: `${organisation}/${name}`, path: snapshot, blobs: blobsOf(snapshot) };
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    // Not there, not to be reached, or no path at all: for the one who asks that is the same.
    return false;
  }
}

function notFound(what: string, where: string): never {
  return fail("KL_MODEL_NOT_FOUND", `The model ${what} was not found. ${where}`, {
    remedy:
      "Give the folder that holds config.json, or a name that the local Hugging Face cache has; nothing is downloaded.",
  });
}

/** As huggingface_hub looks for it. */
function hubCache(env: Env): string {
  if (env.HF_HUB_CACHE) return resolve(env.HF_HUB_CACHE);
  if (env.HF_HOME) return resolve(env.HF_HOME, "hub");
  return resolve(env.XDG_CACHE_HOME || join(env.HOME || homedir(), ".cache"), "huggingface", "hub");
}

function readRef(repo: string, revision: string): string | null {
  try {
    const folder: ModelFolder = { name: revision, path: join(repo, "refs"), blobs: null };
    const commit = Buffer.from(readSmall(folder, revision, 100) ?? "")
      .toString("latin1")
      .trim();
    return /^[0-9a-f]{40}$/.test(commit) ? commit : null;
  } catch (error) {
    if (error instanceof KernlockError) return null;
    throw error;
  }
}

/** `.../models--organisation--name/snapshots/<commit>` links into `.../models--organisation--name/blobs`. */
function blobsOf(path: string): string | null {
  const snapshots = dirname(path);
  const repo = dirname(snapshots);
  return basename(snapshots) === "snapshots" && basename(repo).startsWith("models--") ? join(repo, "blobs") : null;
}

/**
 * Opens a file of the folder, read-only, once and for all; null if there is none.
 *
 * A regular file is opened as it is. A symbolic link is followed only from a Hugging Face cache into the blobs of the
 * same repository. What was opened is then compared with what was meant, so that a link swapped meanwhile is found.
 *
 * @throws KL_MODEL_SYMLINK, KL_MODEL_FILE
 */
export function openFile(folder: ModelFolder, name: string): ModelFile | null {
  const path = join(folder.path, name);
  const entry = statOf(path);
  if (entry === null) return null;
  const target = entry.isSymbolicLink() ? linkTarget(folder, path) : path;
  const fd = openRegular(target);
  try {
    const opened = process.platform === "linux" ? readlinkSync(`/proc/self/fd/${fd}`) : target;
    if (opened !== target) refuseLink(path);
    const stat = fstatSync(fd);
    if (!stat.isFile()) fail("KL_MODEL_FILE", `${path} is not a regular file.`);
    return { path: target, fd, size: stat.size };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function statOf(path: string): Stats | null {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) ?? null;
  } catch (cause) {
    return fail("KL_MODEL_FILE", `${path} cannot be reached (${(cause as NodeJS.ErrnoException).code}).`, { cause });
  }
}

function linkTarget(folder: ModelFolder, path: string): string {
  let target: string;
  try {
    target = realpathSync(path);
  } catch (cause) {
    return fail("KL_MODEL_FILE", `${path} is a link to nothing.`, { remedy: "Download the model again.", cause });
  }
  if (folder.blobs === null || !target.startsWith(folder.blobs + sep)) return refuseLink(path);
  return target;
}

function refuseLink(path: string): never {
  return fail("KL_MODEL_SYMLINK", `${path} is a symbolic link that leads out of the model's folder.`, {
    remedy: "Put the file itself there; links are followed only inside a Hugging Face cache, into the same repository.",
  });
}

function openRegular(path: string): number {
  try {
    // O_NONBLOCK: a pipe must not hang the open.
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    return fail("KL_MODEL_FILE", `${path} cannot be opened (${(cause as NodeJS.ErrnoException).code}).`, { cause });
  }
}

/** A whole small file; null if there is none. @throws KL_MODEL_FILE when it is larger than `limit` bytes */
export function readSmall(folder: ModelFolder, name: string, limit: number): Uint8Array | null {
  const file = openFile(folder, name);
  if (file === null) return null;
  try {
    if (file.size > limit) fail("KL_MODEL_FILE", `${file.path} is larger than ${limit} bytes.`);
    return readExactly(file, 0, file.size);
  } finally {
    closeSync(file.fd);
  }
}

/** @throws KL_MODEL_TRUNCATED when the file ends earlier */
export function readExactly(file: ModelFile, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const read = readSync(file.fd, bytes, done, length - done, offset + done);
    if (read === 0) fail("KL_MODEL_TRUNCATED", `${file.path} ends after ${offset + done} bytes.`);
    done += read;
  }
  return bytes;
}
