import type { Digest, Variant } from "@kernlock/kernels/format";
import type { KernelIndex } from "@kernlock/kernels/oci";
import { contentsOf, type KernelFacts } from "@kernlock/policies/trust";

/** What a policy judges: the same of a version that is published and of one that a mirror thinks of fetching. */
export function kernelFacts(
  index: KernelIndex,
  digest: Digest,
  variants: readonly { readonly key: string; readonly manifest: Digest; readonly variant: Variant }[],
): KernelFacts {
  return {
    name: index.name,
    version: index.version,
    index: digest,
    source: { repository: index.source, revision: index.revision },
    license: index.licenses,
    variants: variants.map(({ key, manifest, variant }) => ({ key, manifest, contents: contentsOf(variant) })),
  };
}
