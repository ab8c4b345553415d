/** Reading a version that nothing pins yet, from a registry or from a layout folder: for locking it, or to explain it. */
import {
  type Digest,
  type ErrorCode,
  fail,
  isDigest,
  KernlockError,
  mediaTypes,
  parseVariant,
  type Variant,
} from "@kernlock/kernels/format";
import {
  checkVariantManifest,
  maxManifestBytes,
  type OciLayout,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
  type RegistryClient,
} from "@kernlock/kernels/oci";
import {
  auditBases,
  checkCall,
  type Evidence,
  given,
  judge,
  type Policy,
  type Verdict,
} from "@kernlock/policies/trust";
import { z } from "zod";
import { kernelFacts, type ReadKernel } from "./contents.ts";
import type { LockedVariant, Pin } from "./types.ts";

/** Where a version comes from. Nothing of it is believed before it was judged. */
export type Source = Pick<RegistryClient, "getManifest" | "getBlob" | "referrers">;

/** More bundles on one manifest than anybody needs are an attempt to keep us busy. */
const maxBundles = 64;
const maxBundleBytes = 4 << 20;
const maxSubjects = 128;

/** An OCI layout folder read as if it were a registry that has one repository. */
export function layoutSource(layout: OciLayout): Source {
  return {
    async getManifest(_, reference) {
      const { digest, mediaType } = isDigest(reference)
        ? { digest: reference, mediaType: mediaTypes.manifest }
        : await layout.resolve(reference);
      return { bytes: await layout.getBlob(digest, { maxBytes: maxManifestBytes }), digest, mediaType };
    },
    getBlob: (_, digest, { maxBytes } = {}) => layout.getBlob(digest, maxBytes === undefined ? {} : { maxBytes }),
    referrers: (_, digest, artifactType) => layout.referrers(digest, artifactType),
  };
}

/** What is attached to the manifests, and to those of earlier versions to which chains of delta audits lead. */
export async function gather(
  source: Source,
  name: string,
  subjects: readonly Digest[],
  { policy, now }: { readonly policy: Policy; readonly now: Date },
): Promise<Evidence[]> {
  const asked = new Set<Digest>();
  const evidence: Evidence[] = [];
  for (let wanted = subjects; wanted.length > 0; ) {
    if (asked.size + wanted.length > maxSubjects) {
      refuse("KL_LOCK_REFERRERS", name, `its delta audits lead to more than ${maxSubjects} manifests`);
    }
    for (const digest of wanted) asked.add(digest);
    evidence.push(...(await Promise.all(wanted.map((digest) => bundlesOf(source, name, digest)))).flat());
    wanted = auditBases({ policy, evidence, now }).filter((digest) => !asked.has(digest));
  }
  return evidence;
}

/** The bundles that are attached to a manifest. */
async function bundlesOf(source: Source, name: string, subject: Digest): Promise<Evidence[]> {
  const referrers = await source.referrers(name, subject, mediaTypes.bundle);
  if (referrers.length > maxBundles) {
    refuse("KL_LOCK_REFERRERS", name, `${referrers.length} bundles are attached to ${subject}`);
  }
  return Promise.all(referrers.map(({ digest }) => bundleOf(source, name, subject, digest)));
}

/** A broken attachment is bad evidence, which the judge says; it must not keep the good ones from being heard. */
async function bundleOf(source: Source, name: string, subject: Digest, referrer: Digest): Promise<Evidence> {
  try {
    const attached = parseBundleManifest((await source.getManifest(name, referrer)).bytes);
    const { digest, size } = attached.bundle;
    const bundle = await source.getBlob(name, digest, { size, maxBytes: maxBundleBytes });
    return { subject: attached.subject.digest, bundle };
  } catch (error) {
    const broken = /^KL_(JSON_|OCI_(BUNDLE|MEDIA_TYPE|TOO_LARGE|SIZE|DIGEST_MISMATCH|BLOB_MISSING))/;
    if (error instanceof KernlockError && broken.test(error.code)) {
      return { subject, bundle: new Uint8Array() };
    }
    throw error;
  }
}

/** A manifest or index, by tag or digest. */
export async function document(
  source: Source,
  name: string,
  reference: string,
): Promise<{ bytes: Uint8Array; pin: Pin }> {
  const { bytes, digest } = await source.getManifest(name, reference);
  return { bytes, pin: { digest, size: bytes.byteLength } };
}

/** A variant with its documents, each compared with what names it. */
export async function readVariant(
  source: Source,
  place: { name: string; version: string; variant: string },
  entry: Pin,
): Promise<{ locked: LockedVariant; variant: Variant; documents: readonly [Pin, Uint8Array][] }> {
  const { bytes, pin } = await document(source, place.name, entry.digest);
  if (pin.size !== entry.size) refuse("KL_LOCK_VARIANT", place.name, `the index gives ${place.variant} another size`);
  const manifest = parseVariantManifest(bytes);
  const config = { digest: manifest.config.digest, size: manifest.config.size };
  const configBytes = await source.getBlob(place.name, config.digest, { size: config.size, maxBytes: 1 << 20 });
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

export interface Explained {
  readonly name: string;
  readonly version: string;
  readonly index: Digest;
  /** Those that were judged. */
  readonly variants: readonly string[];
  /** How many bundles were found, good and bad. */
  readonly bundles: number;
  readonly verdict: Verdict;
}

const request = z.object({
  source: given.methods("source", ["getManifest", "getBlob", "referrers"]),
  reference: z.string(),
  name: z.string().optional(),
  variants: z.array(z.string()).optional(),
  policy: given.policy,
  now: given.date,
  seen: given.numbers.optional(),
});

/**
 * What a policy says of a version that need not be locked, from its documents and what is attached to them; payload
 * files are not read. `variants` are those that matter, where the version has any of them, else all. Does not throw on a
 * refusal; throws what a lock would for documents that are none (KL_JSON_*, KL_OCI_*, KL_VARIANT_*, KL_LOCK_INDEX).
 */
export async function explainVersion(question: {
  readonly source: Source;
  /** Tag or digest of the index. */
  readonly reference: string;
  /** Whose it has to be; the index's own name, where this is left out. */
  readonly name?: string;
  readonly variants?: readonly string[];
  readonly policy: Policy;
  readonly now: Date;
  readonly seen?: Readonly<Record<string, number>>;
}): Promise<Explained> {
  checkCall("explainVersion", request, question);
  const { source, reference, variants: wanted = [], policy, now, seen = {} } = question;
  const { bytes, pin: index } = await document(source, question.name ?? "", reference);
  const facts = parseKernelIndex(bytes);
  const { name, version } = facts;
  if ((question.name ?? name) !== name || (!isDigest(reference) && reference !== version)) {
    refuse("KL_LOCK_INDEX", question.name ?? name, `${reference} is the index of ${name} ${version}`);
  }
  const some = facts.variants.filter(({ variant }) => wanted.includes(variant));
  const variants = await Promise.all(
    (some.length > 0 ? some : facts.variants).map(({ variant, manifest }) =>
      readVariant(source, { name, version, variant }, manifest),
    ),
  );
  const kernel: ReadKernel = { name, index: facts, variants };
  const subjects = [index.digest, ...variants.map(({ locked }) => locked.manifest.digest)];
  const evidence = await gather(source, name, subjects, { policy, now });
  const verdict = judge({ policy, kernel: kernelFacts(kernel, { index }), evidence, now, seen });
  const keys = variants.map(({ locked }) => locked.key).sort();
  return { name, version, index: index.digest, variants: keys, bundles: evidence.length, verdict };
}

export function refuse(code: ErrorCode, name: string, what: string, details: Record<string, unknown> = {}): never {
  return fail(code, `${name}: ${what}.`, {
    remedy: "Correct kernels.json, or ask the kernel's publisher.",
    details: { kernel: name, ...details },
  });
}
