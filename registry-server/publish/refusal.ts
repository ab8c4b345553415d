import { fail } from "@kernlock/kernels/format";
import { assertAllowed, type KernelFacts, refusalOf, type Verdict } from "@kernlock/policies/trust";

/**
 * Throws what a verdict refuses with. Feeds are the registry's own to bring, so a publisher is told whom to ask; and
 * whoever counted on an exception is told why it waives nothing.
 */
export function assertPublishable(verdict: Verdict, kernel: Pick<KernelFacts, "name" | "version">): void {
  if (verdict.ok) return;
  const refusal = refusalOf(verdict);
  const details = {
    kernel: kernel.name,
    version: kernel.version,
    verdict: verdict.tree,
    ...(verdict.warnings.length === 0 ? {} : { warnings: verdict.warnings }),
  };
  if (refusal?.code.startsWith("KL_FEED_")) {
    fail(refusal.code, `${kernel.name} ${kernel.version} cannot be judged: ${refusal.reason}`, {
      remedy: "Ask the registry's operator to bring the feed: `kernlock registry namespace feed list` says what lacks.",
      details,
    });
  }
  if (refusal !== undefined && verdict.warnings.length > 0) {
    fail(refusal.code, `${kernel.name} ${kernel.version}: ${refusal.reason}`, {
      remedy: "Look at the details: evidence is missing, and documents that could waive it do not count.",
      details,
    });
  }
  assertAllowed(verdict, kernel);
}
