import { canonicalJson } from "@kernlock/kernels/format";
import { checkLock } from "./lock.ts";
import type { Change, Lock, LockedKernel } from "./types.ts";

type Compare = (kernel: string | null, what: Change["what"], trust: boolean, old: unknown, young: unknown) => void;

/**
 * What changed from one lock to the next. Another signer, builder or source repository, another registry or policy, a
 * feed whose number went back, or other bytes under the same version are changes of trust: a version bump does not
 * explain them. So is a new kernel by whom nothing was locked before. Without a lock before, everything is new.
 */
export function diffLocks(before: Lock | undefined, after: Lock): Change[] {
  if (before !== undefined) checkLock(before);
  checkLock(after);
  const changes: Change[] = [];
  const compare: Compare = (kernel, what, trust, old, young) => {
    const [a, b] = [old ?? null, young ?? null];
    if (canonicalJson(a) !== canonicalJson(b)) changes.push({ kernel, what, trust, before: a, after: b });
  };
  compare(null, "registry", true, before?.registry.origin, after.registry.origin);
  compare(null, "policy", true, before?.policy, after.policy);
  compare(null, "advisories", wentBack(before, after), before?.advisories, after.advisories);
  compare(null, "model", false, before?.model, after.model);
  const known = familiar(before);
  const names = new Set([...Object.keys(before?.kernels ?? {}), ...Object.keys(after.kernels)]);
  for (const name of [...names].sort()) {
    const old = before?.kernels[name];
    const young = after.kernels[name];
    if (young === undefined) {
      changes.push({ kernel: name, what: "removed", trust: false, before: old?.version ?? null, after: null });
    } else if (old === undefined) {
      changes.push({ kernel: name, what: "added", trust: false, before: null, after: young.version });
      const unknown = young.signers.filter((signer) => !known.signers.has(signer));
      if (unknown.length > 0) compare(name, "signers", true, [], unknown);
      if (!known.builders.has(young.builder)) compare(name, "builder", true, null, young.builder);
      if (!known.repositories.has(young.source.repository)) {
        compare(name, "source", true, null, young.source.repository);
      }
    } else compareKernel(name, old, young, compare);
  }
  return changes;
}

function compareKernel(name: string, old: LockedKernel, young: LockedKernel, compare: Compare): void {
  compare(name, "version", false, old.version, young.version);
  compare(name, "signers", true, old.signers, young.signers);
  compare(name, "builder", true, old.builder, young.builder);
  compareSource(name, old, young, compare);
  compare(name, "auditors", true, vouchers(old), vouchers(young));
  if (old.version === young.version) {
    compare(name, "content", true, old.index.digest, young.index.digest);
    if (old.index.digest === young.index.digest) {
      compare(name, "variants", false, variantKeys(old), variantKeys(young));
    }
  }
}

/** A new version comes from a new revision; the same version from another one, or another repository, is a surprise. */
function compareSource(name: string, old: LockedKernel, young: LockedKernel, compare: Compare): void {
  const whole = old.version === young.version;
  compare(
    name,
    "source",
    true,
    whole ? old.source : old.source.repository,
    whole ? young.source : young.source.repository,
  );
}

/** Who vouches besides the publisher, and by what kind of statement. */
function vouchers({ statements }: LockedKernel): string[] {
  const all = statements.flatMap(({ signer, predicateType }) =>
    signer === undefined ? [] : [`${predicateType} ${signer}`],
  );
  return [...new Set(all)].sort();
}

function familiar(lock: Lock | undefined) {
  const kernels = Object.values(lock?.kernels ?? {});
  return {
    signers: new Set(kernels.flatMap(({ signers }) => signers)),
    builders: new Set(kernels.map(({ builder }) => builder)),
    repositories: new Set(kernels.map(({ source }) => source.repository)),
  };
}

/** A feed that is gone or has an older number may hide what was known. */
function wentBack(before: Lock | undefined, after: Lock): boolean {
  return Object.entries(before?.advisories ?? {}).some(([feed, sequence]) => {
    const now = after.advisories;
    return now === undefined || !Object.hasOwn(now, feed) || (now[feed] ?? 0) < sequence;
  });
}

const variantKeys = ({ variants }: LockedKernel): string[] => variants.map(({ key }) => key);
