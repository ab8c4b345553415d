import { fail } from "@kernlock/kernels/format";
import type { SignedStatement, TrustedKey } from "./types.ts";

/** Verifies a bundle. See the README of its codes in docs/policy.md. Throws KL_BUNDLE_*. */
export function verifyBundle(
  bytes: Uint8Array,
  options: { readonly keys: Iterable<TrustedKey>; readonly now: Date },
): SignedStatement {
  void bytes;
  void options;
  return fail("KL_BUNDLE_MALFORMED", "not yet");
}
