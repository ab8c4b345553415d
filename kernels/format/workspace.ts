import type { Dim } from "../abi/ops.ts";
import { fail } from "./errors.ts";
import type { Term } from "./variant.ts";

const alignment = 64;

/**
 * Bytes that a workspace rule asks for: each term is `bytes` times the product of its dims, rounded up to 64 bytes; terms
 * are added. Throws `KL_VARIANT_WORKSPACE` where a dim has no size or the sum is no longer exact.
 */
export function workspaceBytes(terms: readonly Term[], dims: Readonly<Partial<Record<Dim, number>>>): number {
  let total = 0;
  for (const term of terms) {
    let bytes = term.bytes;
    for (const dim of term.dims) {
      const size = dims[dim];
      if (size === undefined || !Number.isSafeInteger(size) || size < 0) {
        fail(
          "KL_VARIANT_WORKSPACE",
          `A workspace rule needs the size of "${dim}", which this op or model does not have.`,
        );
      }
      bytes *= size;
    }
    total += Math.ceil(bytes / alignment) * alignment;
    if (!Number.isSafeInteger(total))
      fail("KL_VARIANT_WORKSPACE", "A workspace rule asks for more bytes than can be counted.");
  }
  return total;
}
