/** Uploads lie in files of their own, hashed on the way, until they are a store's. */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, mkdirSync, readdirSync, rmSync } from "node:fs";
import { type FileHandle, open, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { fail } from "@kernlock/kernels/format";
import type { Hash } from "../native/addon.ts";
import type { Target } from "../transfers.ts";
import type { Incoming, StoreLimits } from "./blobs.ts";
import { algorithmOf, type ContentDigest } from "./digests.ts";

export interface Spooled {
  readonly path: string;
  readonly file: FileHandle;
  readonly size: number;
  readonly digest: ContentDigest;
  /** Hex, also where the digest is another one. */
  readonly sha256: string;
}

/** `keep` makes the bytes durable under their digest; it may rename the file away. */
export interface Spool {
  begin(keep: (spooled: Spooled) => Promise<void>): Promise<Incoming>;
  /** Rejects when no file can be written and read. */
  check(): Promise<void>;
}

export function openSpool(folder: string, limits: StoreLimits): Spool {
  mkdirSync(folder, { recursive: true });
  // What a dead process left half-written is nobody's.
  if (limits.shared !== true) for (const name of readdirSync(folder)) rmSync(join(folder, name), { force: true });
  return {
    async begin(keep) {
      const id = randomBytes(16).toString("hex");
      const path = join(folder, id);
      const hash = limits.createHash?.() ?? createHash("sha256");
      return incoming({ id, path, file: await open(path, "wx", 0o600), max: limits.maxBlobBytes, hash }, keep);
    },
    async check() {
      const path = join(folder, `check-${randomBytes(6).toString("hex")}`);
      try {
        const file = await open(path, "wx+", 0o600);
        try {
          await file.write("x");
          await file.sync();
          await file.read(Buffer.alloc(1), 0, 1, 0);
        } finally {
          await file.close();
        }
      } finally {
        await rm(path, { force: true });
      }
    },
  };
}

/** A write takes a turn of the event loop and of a thread, whatever its size; each upload holds this much. */
const writtenAtOnce = 256 << 10;

function incoming(
  at: { id: string; path: string; file: FileHandle; max: number; hash: Hash },
  keep: (spooled: Spooled) => Promise<void>,
): Incoming {
  const { hash } = at;
  let size = 0;
  let ended = false;
  let direct: Promise<unknown> = Promise.resolve();
  const stop = new AbortController();

  // Hash, size and file move together, so that an upload that was cut can go on from `size`.
  const keepParts = async (parts: readonly Uint8Array[]) => {
    await writeAll(at.file, parts, size);
    for (const part of parts) {
      hash.update(part);
      size += part.byteLength;
    }
  };
  const target: Target = {
    file: at.file,
    hash,
    position: () => size,
    keep: keepParts,
    moved: (bytes) => {
      size += bytes;
    },
  };

  const abort = async () => {
    if (ended) return;
    ended = true;
    // A descriptor that is written to from outside of Node must not become another file's.
    stop.abort();
    await direct;
    await at.file.close();
    await rm(at.path, { force: true });
  };
  return {
    id: at.id,
    get size() {
      return size;
    },
    async append(source, limit = at.max) {
      const max = Math.min(limit, at.max);
      let held: Uint8Array[] = [];
      let heldBytes = 0;
      const write = () => {
        const parts = held;
        held = [];
        heldBytes = 0;
        return keepParts(parts);
      };
      try {
        if (source.direct !== undefined && size + source.direct.length <= max) {
          const whole = source.direct.into(target, stop.signal);
          direct = whole.catch(() => {});
          if (await whole) return;
        }
        try {
          for await (const chunk of source) {
            if (size + heldBytes + chunk.byteLength > max) {
              fail("KL_REGISTRY_BLOB_TOO_LARGE", `The upload is larger than the ${max} bytes that are taken here.`, {
                remedy: "Split the package, or ask the registry's operator to raise the limit.",
                details: { limit: max },
              });
            }
            held.push(chunk);
            heldBytes += chunk.byteLength;
            if (heldBytes >= writtenAtOnce) await write();
          }
        } finally {
          // Also what came before a cut.
          await write();
        }
      } catch (error) {
        if (isCut(error)) {
          fail("KL_REGISTRY_UPLOAD_CUT", `The upload ended after ${size} bytes, before its announced end.`, {
            remedy: "Ask for the upload's status and go on from there, or send it again.",
            cause: error,
            details: { received: size },
          });
        }
        throw error;
      }
    },
    async commit(expected, announce) {
      try {
        const sha256 = hash.digest("hex");
        // Which algorithm a client names it by is known only now.
        const digest: ContentDigest =
          algorithmOf(expected) === "sha256" ? `sha256:${sha256}` : `sha512:${await sha512Of(at.path)}`;
        if (digest !== expected) {
          fail("KL_REGISTRY_DIGEST_MISMATCH", `The bytes have digest ${digest}, not ${expected} as announced.`, {
            remedy: "Send the very bytes the digest was computed from.",
            details: { expected, actual: digest },
          });
        }
        await announce();
        await keep({ path: at.path, file: at.file, size, digest, sha256 });
        return { size };
      } finally {
        await abort();
      }
    },
    abort,
  };
}

async function sha512Of(path: string): Promise<string> {
  const hash = createHash("sha512");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

async function writeAll(file: FileHandle, parts: readonly Uint8Array[], position: number): Promise<void> {
  const total = parts.reduce((sum, part) => sum + part.byteLength, 0);
  let done = total === 0 ? 0 : (await file.writev(parts, position)).bytesWritten;
  // Seldom: the disk took less than it was given.
  for (const rest = done < total ? Buffer.concat(parts) : Buffer.alloc(0); done < total; ) {
    done += (await file.write(rest, done, total - done, position + done)).bytesWritten;
  }
}

function isCut(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE" || code === "ECONNABORTED";
}
