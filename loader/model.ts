import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type Digest, fail, fields, KernlockError } from "@kernlock/kernels/format";
import { checkCall } from "@kernlock/policies/trust";
import { z } from "zod";
import { checkPath } from "./border.ts";
import type { LockedModel } from "./types.ts";

/** Everything in a checkpoint's folder that can change what the model says. */
const meaningful = /\.(json|jinja|safetensors|txt)$/;

export type ModelProgress = (doneBytes: number, totalBytes: number) => void;

/** Digests of a checkpoint's files, to be written into a lock. KL_LOCK_MODEL where there is nothing to pin. */
export function pinModel(folder: string, name?: string, onProgress: ModelProgress = () => {}): LockedModel {
  checkPath("pinModel", folder);
  return readable(() => pinFiles(folder, name ?? basename(folder), onProgress));
}

function pinFiles(folder: string, name: string, onProgress: ModelProgress): LockedModel {
  const paths = filesOf(folder);
  if (!paths.includes("config.json")) refuse(`${folder} holds no config.json`);
  const total = paths.reduce((sum, path) => sum + statSync(join(folder, path)).size, 0);
  let done = 0;
  const files = paths.map((path) => {
    const fd = openSync(join(folder, path), "r");
    try {
      const { digest, size } = hash(fd, (bytes) => onProgress(done + bytes, total));
      done += size;
      return { path, digest, size };
    } finally {
      closeSync(fd);
    }
  });
  return { name, files };
}

/**
 * Compares a checkpoint with what a lock pins: the same files, with the same bytes, and none besides. `open` are the
 * descriptors through which weights and tokenizer will be read; those very files are hashed, whatever their paths lead
 * to by then. Throws KL_LOCK_MODEL.
 */
export function checkModel(
  pinned: LockedModel,
  folder: string,
  open: readonly { readonly path: string; readonly fd: number }[] = [],
  onProgress: ModelProgress = () => {},
): void {
  checkCall("checkModel", checked, { pinned, folder, open });
  readable(() => compareFiles(pinned, folder, open, onProgress));
}

const checked = z.object({
  pinned: z.object({
    files: z.array(z.object({ path: fields.filePath, digest: fields.digest, size: fields.size })),
  }),
  folder: z.string().min(1),
  open: z.array(z.object({ path: z.string(), fd: z.int().nonnegative() })),
});

/** A file that is not there, or may not be read, is not the pinned one. */
function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof KernlockError) throw error;
    const { code = "unknown reason", path } = error as NodeJS.ErrnoException;
    return refuse(`${path ?? "a file"} cannot be read (${code})`);
  }
}

function compareFiles(
  pinned: LockedModel,
  folder: string,
  open: readonly { readonly path: string; readonly fd: number }[],
  onProgress: ModelProgress,
): void {
  const found = new Set(filesOf(folder));
  const opened = new Map(open.map(({ path, fd }) => [basename(path), fd]));
  const total = pinned.files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const { path, digest, size } of pinned.files) {
    if (!found.delete(path)) refuse(`the file ${path} is missing`, { path });
    const given = opened.get(path);
    const fd = given ?? openSync(join(folder, path), "r");
    try {
      // The size first: it costs nothing, and hashing a wrong file of many gigabytes does.
      const actual = fstatSync(fd).size === size ? hash(fd, (bytes) => onProgress(done + bytes, total)) : undefined;
      if (actual?.digest !== digest || actual.size !== size)
        refuse(`${path} has other bytes`, { path, pinned: digest });
    } finally {
      if (given === undefined) closeSync(fd);
    }
    done += size;
  }
  const [extra] = found;
  if (extra !== undefined) refuse(`the file ${extra} is not pinned`, { path: extra });
}

function filesOf(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => meaningful.test(name) && !name.startsWith(".") && statSync(join(folder, name)).isFile())
    .sort();
}

function hash(fd: number, onBytes: (bytes: number) => void): { digest: Digest; size: number } {
  const sha256 = createHash("sha256");
  const chunk = Buffer.allocUnsafe(4 << 20);
  let size = 0;
  for (;;) {
    const bytes = readSync(fd, chunk, 0, chunk.byteLength, size);
    if (bytes === 0) return { digest: `sha256:${sha256.digest("hex")}`, size };
    sha256.update(chunk.subarray(0, bytes));
    size += bytes;
    onBytes(size);
  }
}

function refuse(what: string, details: Record<string, unknown> = {}): never {
  return fail("KL_LOCK_MODEL", `The model is not the one that the lock pins: ${what}.`, {
    remedy: "Use the pinned model, or lock again with --model and review the change.",
    details,
  });
}
