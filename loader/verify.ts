import { fail } from "@kernlock/kernels/format";
import type { Policy } from "@kernlock/policies/trust";
import type { Cache } from "./cache.ts";
import type { Lock, VerifyReport } from "./types.ts";

/** Re-hashes every file that the lock pins, verifies every bundle, judges, and compares with the pins. No network. */
export async function verifyLocked(request: {
  readonly lock: Lock;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly now: Date;
  /** Also refuses a lock that was made under another policy. */
  readonly frozen?: boolean;
  readonly names?: readonly string[];
}): Promise<VerifyReport> {
  void request;
  return fail("KL_LOCK_MALFORMED", "not yet");
}

/** Throws the first problem of a report. */
export function assertVerified(report: VerifyReport): void {
  void report;
}
