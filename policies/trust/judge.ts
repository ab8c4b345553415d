import { fail } from "@kernlock/kernels/format";
import type { Evidence, KernelFacts, Policy, Verdict } from "./types.ts";

export const provenanceType = "https://slsa.dev/provenance/v1";

/** Evidence and policy in, verdict out. Never throws on hostile evidence: what does not verify is a reason in the tree. */
export function judge(request: {
  readonly policy: Policy;
  readonly kernel: KernelFacts;
  readonly evidence: readonly Evidence[];
  readonly now: Date;
}): Verdict {
  void request;
  return fail("KL_POLICY_MALFORMED", "not yet");
}

/** Throws the code and reason of the first refused leaf, with the tree in its details. */
export function assertAllowed(verdict: Verdict, kernel: KernelFacts): void {
  void verdict;
  void kernel;
}
