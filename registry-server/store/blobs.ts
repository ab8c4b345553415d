/**
 * Where bytes live. A blob is put whole or not at all: it is written to a temporary file and hashed on the way, synced,
 * renamed to its digest, and the folder is synced, before anybody may commit a row that names it.
 */
import { createHash, type Hash, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, rmSync } from "node:fs";
import { type FileHandle, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { type Digest, fail } from "@kernlock/kernels/format";

/** Bytes on their way in. Not visible to anybody before `commit`. */
export interface Incoming {
  readonly id: string;
  /** Bytes written so far. */
  readonly size: number;
  /** Appends all of `source`; rejects with KL_REGISTRY_UPLOAD_CUT or KL_REGISTRY_BLOB_TOO_LARGE. */
  append(source: AsyncIterable<Uint8Array>): Promise<void>;
  /** Makes the bytes a blob if they hash to `expected` (KL_REGISTRY_DIGEST_MISMATCH else). Ends this object either way. */
  commit(expected: Digest): Promise<{ digest: Digest; size: number }>;
  abort(): Promise<void>;
}

export interface BlobStore {
  begin(): Promise<Incoming>;
  /** Size in bytes, or undefined. */
  size(digest: Digest): Promise<number | undefined>;
  /** Bytes `start` to `end` (inclusive). */
  read(digest: Digest, range?: { start: number; end: number }): Readable;
  readAll(digest: Digest): Promise<Buffer>;
}

const digestPattern = /^sha256:[0-9a-f]{64}$/;

export function folderStore(folder: string, options: { maxBlobBytes: number }): BlobStore {
  const blobs = join(folder, "blobs", "sha256");
  const uploads = join(folder, "uploads");
  mkdirSync(blobs, { recursive: true });
  mkdirSync(uploads, { recursive: true });
  // What a dead process left half-written is nobody's.
  for (const name of readdirSync(uploads)) rmSync(join(uploads, name), { force: true });

  const pathOf = (digest: Digest) => {
    if (!digestPattern.test(digest)) fail("KL_REGISTRY_DIGEST_INVALID", `"${digest}" is not a sha256 digest.`);
    return join(blobs, digest.slice("sha256:".length));
  };
  return {
    async begin() {
      const id = randomBytes(16).toString("hex");
      const path = join(uploads, id);
      const file = await open(path, "wx", 0o600);
      return incoming({ id, path, file, pathOf, folder: blobs, max: options.maxBlobBytes });
    },
    async size(digest) {
      const facts = await stat(pathOf(digest)).catch(absent);
      return facts?.size;
    },
    read(digest, range) {
      return createReadStream(pathOf(digest), { highWaterMark: 1 << 19, ...range });
    },
    readAll(digest) {
      return readFile(pathOf(digest));
    },
  };
}

function incoming(at: {
  id: string;
  path: string;
  file: FileHandle;
  pathOf: (digest: Digest) => string;
  folder: string;
  max: number;
}): Incoming {
  const hash: Hash = createHash("sha256");
  let size = 0;
  let ended = false;

  const abort = async () => {
    if (ended) return;
    ended = true;
    await at.file.close();
    await rm(at.path, { force: true });
  };
  return {
    id: at.id,
    get size() {
      return size;
    },
    async append(source) {
      try {
        for await (const chunk of source) {
          if (size + chunk.byteLength > at.max) {
            fail("KL_REGISTRY_BLOB_TOO_LARGE", `The upload is larger than the ${at.max} bytes this registry takes.`, {
              remedy: "Split the package, or ask the registry's operator to raise the limit.",
              details: { limit: at.max },
            });
          }
          // Hash, size and file move together, so that an upload that was cut can go on from `size`.
          await writeAll(at.file, chunk, size);
          hash.update(chunk);
          size += chunk.byteLength;
        }
      } catch (error) {
        if (isCut(error)) {
          fail("KL_REGISTRY_UPLOAD_CUT", `The upload ended after ${size} bytes, before its announced end.`, {
            remedy: "Send it again.",
            cause: error,
            details: { received: size },
          });
        }
        throw error;
      }
    },
    async commit(expected) {
      try {
        const digest: Digest = `sha256:${hash.digest("hex")}`;
        if (digest !== expected) {
          fail("KL_REGISTRY_DIGEST_MISMATCH", `The bytes have digest ${digest}, not ${expected} as announced.`, {
            remedy: "Send the very bytes the digest was computed from.",
            details: { expected, actual: digest },
          });
        }
        await at.file.sync();
        await rename(at.path, at.pathOf(digest));
        await syncFolder(at.folder);
        ended = true;
        await at.file.close();
        return { digest, size };
      } finally {
        await abort();
      }
    },
    abort,
  };
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function isCut(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE" || code === "ECONNABORTED";
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code === "ENOENT") return undefined;
  throw error;
}
