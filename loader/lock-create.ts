import {
  type Digest,
  digestOf,
  type ErrorCode,
  fail,
  isVersion,
  KernlockError,
  mediaTypes,
  parseVariant,
  type Variant,
} from "@kernlock/kernels/format";
import {
  checkVariantManifest,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
  type RegistryClient,
} from "@kernlock/kernels/oci";
import { assertAllowed, auditBases, type Evidence, judge, type Policy } from "@kernlock/policies/trust";
import semver from "semver";
import { checkRequest } from "./border.ts";
import type { Cache } from "./cache.ts";
import { kernelFacts, type ReadKernel, trustOf } from "./contents.ts";
import { diffLocks } from "./diff.ts";
import { formatLock } from "./lock.ts";
import type { Change, Lock, LockedKernel, LockedModel, LockedVariant, Manifest, Pin } from "./types.ts";
import { lockProblems } from "./verify.ts";

/** More bundles on one manifest than anybody needs are an attempt to keep us busy. */
const maxBundles = 64;
const maxBundleBytes = 4 << 20;
const maxSubjects = 128;

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
    wanted.map(({ variant, manifest: entry }) => lockVariant(request, { name, version, variant }, entry)),
  );
  const kernel: ReadKernel = { name, index: facts, variants };
  const evidence = await gather(request, name, [index.digest, ...variants.map(({ locked }) => locked.manifest.digest)]);
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

async function resolveVersion({ manifest, registry, previous, update }: Request, name: string): Promise<string> {
  const range = manifest.kernels[name] as string;
  const tags = (await registry.tags(name)).filter(isVersion);
  const before = previous?.kernels[name]?.version;
  if (!update && before !== undefined && tags.includes(before) && semver.satisfies(before, range)) return before;
  const newest = semver.maxSatisfying(tags, range);
  return newest ?? refuse("KL_LOCK_NO_VERSION", name, `the registry has no version of it in ${range}`, { found: tags });
}

async function lockVariant(
  { registry }: Request,
  place: { name: string; version: string; variant: string },
  entry: Pin,
): Promise<{ locked: LockedVariant; variant: Variant; documents: readonly [Pin, Uint8Array][] }> {
  const { bytes, pin } = await document(registry, place.name, entry.digest);
  if (pin.size !== entry.size) refuse("KL_LOCK_VARIANT", place.name, `the index gives ${place.variant} another size`);
  const manifest = parseVariantManifest(bytes);
  const config = { digest: manifest.config.digest, size: manifest.config.size };
  const configBytes = await registry.getBlob(place.name, config.digest, { size: config.size, maxBytes: 1 << 20 });
  const variant = parseVariant(configBytes);
  checkVariantManifest(manifest, variant, place);
  const files = variant.files.map(({ path, kind, digest, size }) => ({ path, kind, digest, size }));
  return {
    locked: { key: place.variant, manifest: pin, config, files },
    variant,
    documents: [
      [pin, bytes],
      [config, configBytes],
    ],
  };
}

/** What is attached to the manifests, and to those of earlier versions to which chains of delta audits lead. */
async function gather({ registry, policy, now }: Request, name: string, subjects: Digest[]): Promise<Evidence[]> {
  const asked = new Set<Digest>();
  const evidence: Evidence[] = [];
  for (let wanted = subjects; wanted.length > 0; ) {
    if (asked.size + wanted.length > maxSubjects) {
      refuse("KL_LOCK_REFERRERS", name, `its delta audits lead to more than ${maxSubjects} manifests`);
    }
    for (const digest of wanted) asked.add(digest);
    evidence.push(...(await Promise.all(wanted.map((digest) => bundlesOf(registry, name, digest)))).flat());
    wanted = auditBases({ policy, evidence, now }).filter((digest) => !asked.has(digest));
  }
  return evidence;
}

/** The bundles that are attached to a manifest. */
async function bundlesOf(registry: RegistryClient, name: string, subject: Digest): Promise<Evidence[]> {
  const referrers = await registry.referrers(name, subject, mediaTypes.bundle);
  if (referrers.length > maxBundles) {
    refuse("KL_LOCK_REFERRERS", name, `${referrers.length} bundles are attached to ${subject}`);
  }
  return Promise.all(referrers.map(({ digest }) => bundleOf(registry, name, subject, digest)));
}

/** A broken attachment is bad evidence, which the judge says; it must not keep the good ones from being heard. */
async function bundleOf(registry: RegistryClient, name: string, subject: Digest, referrer: Digest): Promise<Evidence> {
  try {
    const attached = parseBundleManifest((await registry.getManifest(name, referrer)).bytes);
    const { digest, size } = attached.bundle;
    const bundle = await registry.getBlob(name, digest, { size, maxBytes: maxBundleBytes });
    return { subject: attached.subject.digest, bundle };
  } catch (error) {
    const broken = /^KL_(JSON_|OCI_(BUNDLE|MEDIA_TYPE|TOO_LARGE|SIZE|DIGEST_MISMATCH|BLOB_MISSING))/;
    if (error instanceof KernlockError && broken.test(error.code)) {
      return { subject, bundle: new Uint8Array() };
    }
    throw error;
  }
}

async function document(
  registry: RegistryClient,
  name: string,
  reference: string,
): Promise<{ bytes: Uint8Array; pin: Pin }> {
  const { bytes, digest } = await registry.getManifest(name, reference);
  return { bytes, pin: { digest, size: bytes.byteLength } };
}

function refuse(code: ErrorCode, name: string, what: string, details: Record<string, unknown> = {}): never {
  return fail(code, `${name}: ${what}.`, {
    remedy: "Correct kernels.json, or ask the kernel's publisher.",
    details: { kernel: name, ...details },
  });
}
