import type { Change, Lock } from "./types.ts";

/** What changed from one lock to the next; changes of signer, builder, source or registry are changes of trust. */
export function diffLocks(before: Lock, after: Lock): Change[] {
  void before;
  void after;
  return [];
}
