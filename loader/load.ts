import { fail } from "@kernlock/kernels/format";
import type { Policy } from "@kernlock/policies/trust";
import type { Cache } from "./cache.ts";
import type { AuditLine, Loaded, LoadMachine, Lock, SealedFile } from "./types.ts";

/** Verifies, then seals the payload files of every locked variant that fits the machine. */
export async function loadKernels(request: {
  readonly lock: Lock;
  readonly policy: Policy;
  readonly cache: Cache;
  readonly machine: LoadMachine;
  /** Only these packages; each must then have a variant that fits. */
  readonly names?: readonly string[];
  readonly now: Date;
  readonly frozen?: boolean;
  readonly onAudit?: (line: AuditLine) => void;
  /** Called once a file is sealed, before it is hashed: here tests rewrite the cache. */
  readonly onSealed?: (file: SealedFile) => void | Promise<void>;
}): Promise<Loaded> {
  void request;
  return fail("KL_LOCK_MALFORMED", "not yet");
}
