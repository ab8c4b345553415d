import { canonicalJson } from "@kernlock/kernels/format";
import type { Change, Lock, LockedKernel } from "./types.ts";

/**
 * What changed from one lock to the next. Another signer, builder or source repository, another registry, or other
 * bytes under the same version are changes of trust: a version bump does not explain them.
 */
export function diffLocks(before: Lock, after: Lock): Change[] {
  const changes: Change[] = [];
  const compare = (kernel: string | null, what: Change["what"], trust: boolean, old: unknown, young: unknown): void => {
    if (canonicalJson(old) !== canonicalJson(young)) changes.push({ kernel, what, trust, before: old, after: young });
  };
  compare(null, "registry", true, before.registry.origin, after.registry.origin);
  compare(null, "policy", false, before.policy, after.policy);
  const names = new Set([...Object.keys(before.kernels), ...Object.keys(after.kernels)]);
  for (const name of [...names].sort()) {
    const old = before.kernels[name];
    const young = after.kernels[name];
    if (old === undefined || young === undefined) {
      const what = old === undefined ? "added" : "removed";
      changes.push({ kernel: name, what, trust: false, before: old?.version ?? null, after: young?.version ?? null });
      continue;
    }
    compare(name, "version", false, old.version, young.version);
    compare(name, "signers", true, old.signers, young.signers);
    compare(name, "builder", true, old.builder, young.builder);
    compareSource(name, old, young, compare);
    if (old.version === young.version) {
      compare(name, "content", true, old.index.digest, young.index.digest);
      if (old.index.digest === young.index.digest) {
        compare(name, "variants", false, variantKeys(old), variantKeys(young));
      }
    }
  }
  return changes;
}

/** A new version comes from a new revision; the same version from another one, or another repository, is a surprise. */
function compareSource(
  name: string,
  old: LockedKernel,
  young: LockedKernel,
  compare: (kernel: string, what: Change["what"], trust: boolean, old: unknown, young: unknown) => void,
): void {
  const whole = old.version === young.version;
  compare(
    name,
    "source",
    true,
    whole ? old.source : old.source.repository,
    whole ? young.source : young.source.repository,
  );
}

const variantKeys = ({ variants }: LockedKernel): string[] => variants.map(({ key }) => key);
