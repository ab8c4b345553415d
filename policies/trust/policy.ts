import { type Digest, digestOf, fail } from "@kernlock/kernels/format";
import type { Policy } from "./types.ts";

/** sha256 of the policy file's bytes. */
export function policyDigest(text: Uint8Array | string): Digest {
  return digestOf(typeof text === "string" ? Buffer.from(text) : text);
}

/** Reads `kernels.policy.yaml`. Throws KL_POLICY_*. */
export function parsePolicy(text: Uint8Array | string): Policy {
  void text;
  return fail("KL_POLICY_MALFORMED", "not yet");
}
