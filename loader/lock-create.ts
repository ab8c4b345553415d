import { digestOf, fail, isVersion } from "@kernlock/kernels/format";
import { parseKernelIndex, type RegistryClient } from "@kernlock/kernels/oci";
import { assertAllowed, judge, type Policy } from "@kernlock/policies/trust";
import semver from "semver";
import { checkRequest } from "./border.ts";
import type { Cache } from "./cache.ts";
import { document, gather, readVariant, refuse } from "./candidate.ts";
import { kernelFacts, type ReadKernel, trustOf } from "./contents.ts";
import { diffLocks } from "./diff.ts";
import { formatLock } from "./lock.ts";
import type { Change, Lock, LockedKernel, LockedModel, Manifest } from "./types.ts";
import { lockProblems } from "./verify.ts";

export interface LockResult {
  readonly lock: Lock;
  /** What to write to `kernels.lock`. */
  readonly text: string;
  /** Against the previous lock; empty without one. */
  readonly changes: readonly Change[];
  /** Some change is one of signer, builder, source, registry or of bytes under one version. */
  readonly trustChanged: boolean;
  /** Target variants that a kernel does not have: `name version variant`. */
  readonly missingVariants: readonly string[];
}

interface Request {
  readonly manifest: Manifest;
  readonly policy: Policy;
  readonly registry: RegistryClient;
  /** Indexes, manifests, configs and bundles are kept here; payload files are left to `fetchLocked`. */
  readonly cache: Cache;
  readonly now: Date;
  /** The lock to start from: its versions stay where they still satisfy the ranges, unless `update`. */
  readonly previous?: Lock;
  readonly update?: boolean;
  /** Versions of a kernel that are not chosen any more, such as yanked ones; what the previous lock pins stays. */
  readonly avoid?: (name: string) => Promise<ReadonlySet<string>>;
  /** Files of a model to pin; null for none. Left out, what the previous lock pins stays. */
  readonly model?: LockedModel | null;
}

/**
 * Resolves `kernels.json` against the registry's tags, fetches what has to be judged, judges it, and returns the lock
 * that pins exactly what was accepted. The caller writes `text`.
 * Throws KL_LOCK_REGISTRY, KL_LOCK_NO_VERSION, KL_LOCK_NO_VARIANT, KL_LOCK_MOVED, KL_LOCK_INDEX, KL_LOCK_ABI,
 * KL_LOCK_BUILDER, the codes of the verdict, of documents (KL_JSON_*, KL_OCI_*, KL_VARIANT_*) and of the client.
 */
export async function createLock(request: Request): Promise<LockResult> {
  checkRequest("createLock", request);
  const { manifest, policy, registry, previous } = request;
  const model = request.model === undefined ? previous?.model : (request.model ?? undefined);
  if (registry.origin !== manifest.registry) {
    fail("KL_LOCK_REGISTRY", `kernels.json names the registry ${manifest.registry}, and this is ${registry.origin}.`, {
      remedy: "Ask the registry that kernels.json names.",
    });
  }
  const missingVariants: string[] = [];
  const sequences: Record<string, number> = {};
  const names = Object.keys(manifest.kernels).sort();
  const locked = await Promise.all(
    names.map(
      async (name): Promise<[string, LockedKernel]> => [
        name,
        await lockKernel(request, name, missingVariants, sequences),
      ],
    ),
  );
  const lock: Lock = {
    lockVersion: 1,
    registry: { origin: manifest.registry },
    policy: policy.digest,
    ...(Object.keys(sequences).length === 0 ? {} : { advisories: sequences }),
    ...(model === undefined ? {} : { model }),
    kernels: Object.fromEntries(locked),
  };
  const [problem] = lockProblems({ lock, manifest, policy });
  if (problem) throw problem;
  const changes = previous === undefined ? [] : diffLocks(previous, lock);
  return {
    lock,
    text: formatLock(lock),
    changes,
    trustChanged: changes.some(({ trust }) => trust),
    missingVariants: missingVariants.sort(),
  };
}

async function lockKernel(
  request: Request,
  name: string,
  missingVariants: string[],
  sequences: Record<string, number>,
): Promise<LockedKernel> {
  const { manifest, policy, registry, cache, now } = request;
  const version = await resolveVersion(request, name);
  const { bytes, pin: index } = await document(registry, name, version);
  const before = request.previous?.kernels[name];
  if (before?.version === version && before.index.digest !== index.digest) {
    refuse("KL_LOCK_MOVED", name, `the registry now has other bytes as ${version} than the lock pins`, {
      pinned: before.index.digest,
      found: index.digest,
    });
  }
  const facts = parseKernelIndex(bytes);
  if (facts.name !== name || facts.version !== version) {
    refuse("KL_LOCK_INDEX", name, `the registry's ${version} is the index of ${facts.name} ${facts.version}`);
  }
  const wanted = facts.variants.filter(({ variant }) => manifest.variants.includes(variant));
  if (wanted.length === 0) refuse("KL_LOCK_NO_VARIANT", name, `${version} has none of the variants in kernels.json`);
  for (const key of manifest.variants) {
    if (!wanted.some(({ variant }) => variant === key)) missingVariants.push(`${name} ${version} ${key}`);
  }
  const variants = await Promise.all(
    wanted.map(({ variant, manifest: entry }) => readVariant(registry, { name, version, variant }, entry)),
  );
  const kernel: ReadKernel = { name, index: facts, variants };
  const subjects = [index.digest, ...variants.map(({ locked }) => locked.manifest.digest)];
  const evidence = await gather(registry, name, subjects, { policy, now });
  const seen = request.previous?.advisories ?? {};
  const verdict = judge({ policy, kernel: kernelFacts(kernel, { index }), evidence, now, seen });
  assertAllowed(verdict, { name, version });
  const trust = trustOf(name, verdict.accepted);

  const abi = variants[0]?.variant.abi ?? 0;
  if (variants.some(({ variant }) => variant.abi !== abi)) refuse("KL_LOCK_ABI", name, "its variants differ in ABI");

  // Nothing of a kernel is written down before all of it was accepted.
  await cache.put(index, bytes);
  for (const { documents } of variants) for (const [pin, content] of documents) await cache.put(pin, content);
  for (const { bundle } of trust.statements) {
    const found = evidence.find((item) => digestOf(item.bundle) === bundle.digest);
    if (found) await cache.put(bundle, found.bundle);
  }
  for (const [feed, sequence] of Object.entries(verdict.sequences)) {
    if (!feed.startsWith("operator:")) sequences[feed] = sequence;
  }
  return {
    version,
    index,
    abi,
    ...trust,
    source: { repository: facts.source, revision: facts.revision },
    variants: variants.map(({ locked }) => locked).sort((a, b) => (a.key < b.key ? -1 : 1)),
  };
}

async function resolveVersion(request: Request, name: string): Promise<string> {
  const { manifest, registry, previous, update } = request;
  const range = manifest.kernels[name] as string;
  const tags = (await registry.tags(name)).filter(isVersion);
  const avoided = (await request.avoid?.(name)) ?? new Set();
  const before = previous?.kernels[name]?.version;
  if (!update && before !== undefined && tags.includes(before) && semver.satisfies(before, range)) return before;
  const offered = tags.filter((version) => !avoided.has(version));
  const newest = semver.maxSatisfying(offered, range);
  const what = offered.length === tags.length ? "has" : "offers";
  return (
    newest ??
    refuse("KL_LOCK_NO_VERSION", name, `the registry ${what} no version of it in ${range}`, { found: offered })
  );
}
