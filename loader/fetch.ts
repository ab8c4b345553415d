import { fail } from "@kernlock/kernels/format";
import type { RegistryClient } from "@kernlock/kernels/oci";
import type { Cache } from "./cache.ts";
import type { Lock, Progress } from "./types.ts";

/** Brings every blob that the lock pins into the cache. KL_FETCH_*, KL_CACHE_*, and what the client throws. */
export async function fetchLocked(request: {
  readonly lock: Lock;
  readonly cache: Cache;
  readonly registry: RegistryClient;
  readonly names?: readonly string[];
  readonly concurrency?: number;
  readonly onProgress?: (progress: Progress) => void;
}): Promise<{ fetchedFiles: number; fetchedBytes: number; presentFiles: number }> {
  void request;
  return fail("KL_FETCH_DIGEST", "not yet");
}
