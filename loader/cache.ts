import { createHash, type Hash, randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { digestHex, type ErrorCode, fail, KernlockError } from "@kernlock/kernels/format";
import { checkPath } from "./border.ts";
import type { Pin } from "./types.ts";

/** Gives the rest of a blob from `offset` on; `hash` has taken what came before. */
export type BlobSource = (offset: number, hash: Hash) => AsyncIterable<Uint8Array>;

/** A content-addressed folder, `blobs/sha256/<hex>`. Nothing in it is believed: every read is hashed. */
export interface Cache {
  readonly folder: string;
  /** The path a blob has or would have. */
  pathOf(pin: Pin): string;
  /**
   * Opens a blob's file once, for reading: no link is followed, and it is a regular file of the pinned size.
   * KL_CACHE_MISSING, KL_CACHE_FILE, KL_CACHE_SIZE. Its content is not looked at.
   */
  open(pin: Pin): Promise<FileHandle>;
  /** Reads and hashes; at most 16 MiB. The codes of `open`, and KL_CACHE_DIGEST. */
  read(pin: Pin): Promise<Uint8Array>;
  /** Hashes without keeping; the same codes. */
  check(pin: Pin): Promise<void>;
  /** Stores bytes, whose size and digest are checked first. */
  put(pin: Pin, bytes: Uint8Array): Promise<void>;
  /**
   * Stores a blob from a stream, which goes on where an earlier try was cut off. The file gets its name when its digest
   * holds, never before. `onSize` hears how much is there so far.
   * KL_FETCH_SIZE, KL_FETCH_DIGEST, and what the source throws (then what came is kept).
   */
  receive(pin: Pin, source: BlobSource, onSize?: (size: number) => void): Promise<void>;
}

const readable = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const writable = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const maxRead = 16 << 20;
const chunkBytes = 1 << 20;
const repair = "Run `kernlock fetch`, which replaces what is missing or damaged.";

/** Opens the cache in a folder, which need not be there yet. */
export function openCache(folder: string): Cache {
  checkPath("openCache", folder);
  const pathOf = (pin: Pin) => join(folder, "blobs", "sha256", digestHex(pin.digest));
  const partialOf = (pin: Pin) => join(folder, "partial", digestHex(pin.digest));

  const openBlob = async (pin: Pin): Promise<FileHandle> => {
    let file: FileHandle;
    try {
      file = await open(pathOf(pin), readable);
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === "ENOENT"
        ? refuse("KL_CACHE_MISSING", pin, "is not in the cache")
        : refuse("KL_CACHE_FILE", pin, "is not a file that can be opened in the cache (links are not followed)");
    }
    try {
      const facts = await file.stat();
      if (!facts.isFile()) refuse("KL_CACHE_FILE", pin, "is not a regular file in the cache");
      if (facts.size !== pin.size)
        refuse("KL_CACHE_SIZE", pin, `has ${facts.size} bytes in the cache, not ${pin.size}`);
      return file;
    } catch (error) {
      await file.close();
      throw error;
    }
  };

  const check = async (pin: Pin, keep?: (chunk: Uint8Array) => void): Promise<void> => {
    const file = await openBlob(pin);
    try {
      const hash = createHash("sha256");
      const size = await hashFile(file, hash, keep);
      if (size !== pin.size || !holds(hash, pin)) {
        refuse("KL_CACHE_DIGEST", pin, "has other bytes in the cache than its digest says");
      }
    } finally {
      await file.close();
    }
  };

  /** The last step of every write: what is on the disk gets its name, in place of whatever had it. */
  const settle = async (temporary: string, file: FileHandle, pin: Pin): Promise<void> => {
    await file.sync();
    const path = pathOf(pin);
    await mkdir(dirname(path), { recursive: true });
    try {
      await rename(temporary, path);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== "EISDIR" && code !== "ENOTEMPTY" && code !== "EEXIST") throw cause;
      refuse("KL_CACHE_FILE", pin, "cannot be stored, since something that is no file has its name", cause);
    }
    await syncFolder(dirname(path));
  };

  return {
    folder,
    pathOf,
    open: openBlob,
    check: (pin) => check(pin),
    read: async (pin) => {
      if (pin.size > maxRead) refuse("KL_CACHE_SIZE", pin, `is larger than ${maxRead} bytes`);
      const chunks: Uint8Array[] = [];
      await check(pin, (chunk) => chunks.push(Uint8Array.from(chunk)));
      return Buffer.concat(chunks);
    },
    put: async (pin, bytes) => {
      if (bytes.byteLength !== pin.size) refuse("KL_FETCH_SIZE", pin, `has ${bytes.byteLength} bytes, not ${pin.size}`);
      if (!holds(createHash("sha256").update(bytes), pin)) refuse("KL_FETCH_DIGEST", pin, "came with other bytes");
      if (await present(check(pin))) return;
      await withTemporary(pin, partialOf(pin), async (temporary, file) => {
        await file.truncate();
        await file.write(bytes, 0, bytes.byteLength, 0);
        await settle(temporary, file, pin);
      });
    },
    receive: async (pin, source, onSize) => {
      await withTemporary(pin, partialOf(pin), async (temporary, file) => {
        let hash = createHash("sha256");
        let size = await hashFile(file, hash);
        // What an earlier try left is only a guess: where it does not lead to the digest, everything is fetched again.
        for (let resumed = size > 0; ; resumed = false) {
          if (size > pin.size) [hash, size] = await startOver(file);
          onSize?.(size);
          try {
            size = await append(file, size, hash, pin, source, onSize);
            if (size !== pin.size) refuse("KL_FETCH_SIZE", pin, `came with ${size} bytes, not ${pin.size}`);
            if (!holds(hash, pin)) refuse("KL_FETCH_DIGEST", pin, "came with other bytes than its digest says");
            return await settle(temporary, file, pin);
          } catch (error) {
            if (!isWrongContent(error)) throw error;
            [hash, size] = await startOver(file);
            if (!resumed) throw error;
          }
        }
      });
    },
  };
}

function refuse(code: ErrorCode, pin: Pin, what: string, cause?: unknown): never {
  return fail(code, `The blob ${pin.digest} ${what}.`, { remedy: repair, details: { digest: pin.digest }, cause });
}

const holds = (hash: Hash, pin: Pin): boolean => `sha256:${hash.copy().digest("hex")}` === pin.digest;

/** True when a check passed; false for what a new copy repairs. */
export async function present(check: Promise<void>): Promise<boolean> {
  try {
    await check;
    return true;
  } catch (error) {
    if (error instanceof KernlockError && error.code.startsWith("KL_CACHE_")) return false;
    throw error;
  }
}

/** Bytes that are wrong, and not merely incomplete: keeping them would spoil the next try. */
function isWrongContent(error: unknown): boolean {
  if (!(error instanceof KernlockError)) return false;
  return ["KL_FETCH_SIZE", "KL_FETCH_DIGEST", "KL_OCI_DIGEST_MISMATCH", "KL_OCI_SIZE"].includes(error.code);
}

async function hashFile(file: FileHandle, hash: Hash, keep?: (chunk: Uint8Array) => void): Promise<number> {
  const chunk = Buffer.allocUnsafe(chunkBytes);
  let size = 0;
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, chunk.byteLength, size);
    if (bytesRead === 0) return size;
    const part = chunk.subarray(0, bytesRead);
    hash.update(part);
    keep?.(part);
    size += bytesRead;
  }
}

async function startOver(file: FileHandle): Promise<[Hash, number]> {
  await file.truncate();
  return [createHash("sha256"), 0];
}

async function append(
  file: FileHandle,
  start: number,
  hash: Hash,
  pin: Pin,
  source: BlobSource,
  onSize?: (size: number) => void,
): Promise<number> {
  if (start === pin.size) return start;
  let size = start;
  for await (const chunk of source(start, hash.copy())) {
    if (size + chunk.byteLength > pin.size) refuse("KL_FETCH_SIZE", pin, `came with more than ${pin.size} bytes`);
    hash.update(chunk);
    for (let at = 0; at < chunk.byteLength; ) {
      const { bytesWritten } = await file.write(chunk, at, chunk.byteLength - at, size + at);
      at += bytesWritten;
    }
    size += chunk.byteLength;
    onSize?.(size);
  }
  return size;
}

/**
 * Runs `body` on a file that is this call's alone. What an earlier try left is taken over by a rename, which only one
 * process can win; when this try fails too, what it has is left for the next one as `partial`.
 */
async function withTemporary(
  pin: Pin,
  partial: string,
  body: (temporary: string, file: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${partial}.${process.pid}-${randomBytes(6).toString("hex")}`;
  try {
    await mkdir(dirname(partial), { recursive: true });
    await takeOver(partial, temporary);
    const file = await openOwn(temporary);
    try {
      await body(temporary, file);
    } catch (error) {
      if ((await file.stat()).size > 0) await rename(temporary, partial).catch(() => {});
      throw error;
    } finally {
      await file.close();
      await rm(temporary, { force: true });
    }
  } catch (error) {
    if (error instanceof KernlockError || (error as NodeJS.ErrnoException).syscall === undefined) throw error;
    refuse("KL_CACHE_WRITE", pin, `cannot be stored in the cache (${(error as NodeJS.ErrnoException).code})`, error);
  }
}

/** Longest silence of a download that is still alive; the client's own limits are far shorter. */
const abandonedMs = 120_000;

async function takeOver(partial: string, temporary: string): Promise<void> {
  const folder = dirname(partial);
  const prefix = `${basename(partial)}.`;
  const left = (await readdir(folder)).filter((name) => name.startsWith(prefix)).map((name) => join(folder, name));
  for (const path of [partial, ...left]) {
    const taken = (path === partial || (await isAbandoned(path))) && (await rename(path, temporary).then(yes, no));
    if (taken) return;
  }
}

const yes = () => true;
const no = () => false;

/** A download whose process was killed, or whose file nobody has written to for long. */
async function isAbandoned(path: string): Promise<boolean> {
  const pid = Number(/\.(\d+)-[0-9a-f]+$/.exec(path)?.[1]);
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return true;
  }
  const facts = await lstat(path).catch(() => null);
  return facts !== null && Date.now() - facts.mtimeMs > abandonedMs;
}

/** Opens a file for writing that is nothing but that: a link of either kind would lead to somebody else's bytes. */
async function openOwn(path: string): Promise<FileHandle> {
  const found = await open(path, writable, 0o644).catch(() => null);
  const facts = await found?.stat();
  if (found && facts?.isFile() && facts.nlink === 1) return found;
  await found?.close();
  await rm(path, { recursive: true, force: true });
  return open(path, writable | constants.O_EXCL, 0o644);
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
