import { fail } from "@kernlock/kernels/format";
import type { Pin } from "./types.ts";

/** A content-addressed folder, `blobs/sha256/<hex>`. Nothing in it is believed: every read is hashed. */
export interface Cache {
  readonly folder: string;
  /** The path a blob has or would have. */
  pathOf(pin: Pin): string;
  /** Reads and hashes. KL_CACHE_MISSING, KL_CACHE_FILE (link, not a regular file), KL_CACHE_SIZE, KL_CACHE_DIGEST. */
  read(pin: Pin): Promise<Uint8Array>;
  /** Hashes without keeping; the same codes. */
  check(pin: Pin): Promise<void>;
  /** Stores bytes whose digest is checked first; a file that is there already with the right bytes stays. */
  put(pin: Pin, bytes: Uint8Array): Promise<void>;
}

export function openCache(folder: string): Cache {
  return fail("KL_CACHE_FILE", `not yet ${folder}`);
}
