import { fail, type KernlockError, prettyJson } from "@kernlock/kernels/format";
import type { Lock, Manifest } from "./types.ts";

/** Reads `kernels.lock`. Throws KL_LOCK_*. */
export function parseLock(bytes: Uint8Array | string): Lock {
  void bytes;
  return fail("KL_LOCK_MALFORMED", "not yet");
}

/** The only text that a lock has: canonical pretty JSON. */
export function formatLock(lock: Lock): string {
  return prettyJson(lock);
}

/** Whether the lock still answers `kernels.json`: one problem (KL_LOCK_STALE) for each difference. */
export function checkLockMatches(manifest: Manifest, lock: Lock): KernlockError[] {
  void manifest;
  void lock;
  return [];
}
