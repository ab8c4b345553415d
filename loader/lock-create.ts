import { fail } from "@kernlock/kernels/format";
import type { RegistryClient } from "@kernlock/kernels/oci";
import type { Policy } from "@kernlock/policies/trust";
import type { Cache } from "./cache.ts";
import type { Change, Lock, Manifest } from "./types.ts";

/** Resolves, fetches what has to be judged, verifies, judges, and returns the lock; the caller writes `text`. */
export async function createLock(request: {
  readonly manifest: Manifest;
  readonly policy: Policy;
  readonly registry: RegistryClient;
  /** Index, manifests, configs and bundles are kept here; payload files are left to `fetchLocked`. */
  readonly cache: Cache;
  readonly now: Date;
  /** The lock to start from: its versions stay where they still satisfy the ranges, unless `update`. */
  readonly previous?: Lock;
  readonly update?: boolean;
}): Promise<{ lock: Lock; text: string; changes: Change[]; trustChanged: boolean; missingVariants: string[] }> {
  void request;
  return fail("KL_LOCK_MALFORMED", "not yet");
}
