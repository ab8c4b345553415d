/**
 * A version of a kernel, from an upstream into this registry: everything that it names is fetched first, then it is
 * published here as anybody's would be, by the same code, under the policies of this registry. Until then nothing of it
 * is visible.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type Digest,
  digestOf,
  fail,
  isDigest,
  KernlockError,
  mediaTypes,
  parseStrictJson,
  parseVariant,
  type Variant,
} from "@kernlock/kernels/format";
import {
  checkVariantManifest,
  type Descriptor,
  emptyConfigBlob,
  type FetchedManifest,
  type KernelIndex,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
} from "@kernlock/kernels/oci";
import { describeBundle } from "@kernlock/policies/trust";
import { z } from "zod";
import type { Namespace } from "../admin.ts";
import { storeManifest } from "../publish/store-manifest.ts";
import type { ManifestRow } from "../store/records.ts";
import { foresee } from "./foresee.ts";
import { keepBlob, keepBytes, type WantedBlob } from "./keep.ts";
import type { Kit } from "./kit.ts";
import { actorOf, type Mirror, upstreamRepository } from "./mirrors.ts";

/** Bundles on one manifest; an upstream that lists more is not followed. */
const maxBundles = 64;
const maxBundleBytes = 4 << 20;
const maxConfigBytes = 1 << 20;
const leaseMs = 60_000;
const blobsAtATime = 4;
const fallbackShape = z.looseObject({
  manifests: z.array(
    z.looseObject({
      mediaType: z.string().max(255),
      digest: z.custom<Digest>(isDigest),
      size: z.number().int().nonnegative(),
      artifactType: z.string().max(255).optional(),
    }),
  ),
});
/** No evidence, and no reason to leave a version out. */
const noBundle = /^KL_(?:OCI_BUNDLE(?:_LAYERS)?|OCI_MEDIA_TYPE|REGISTRY_BUNDLE_SUBJECT|JSON_\w+)$/;

export interface Subject {
  readonly repository: string;
  readonly owner: Namespace;
  readonly mirror: Mirror;
}

/** The version's index as the upstream has it now. KL_MIRROR_UPSTREAM when it is another package's or version's. */
export async function fetchIndex(kit: Kit, { repository, mirror }: Subject, version: string): Promise<FetchedManifest> {
  const fetched = await kit.upstream(mirror).registry.getManifest(repository, version);
  checkIndex(fetched, repository, version);
  return fetched;
}

/** Which version a digest belongs to: that of an index, or of one of its variants. Undefined for anything else. */
export async function versionOf(
  kit: Kit,
  { repository, mirror }: Subject,
  digest: Digest,
): Promise<{ version: string; index?: FetchedManifest } | undefined> {
  const { registry } = kit.upstream(mirror);
  const fetched = await registry.getManifest(repository, digest);
  if (fetched.mediaType === mediaTypes.index) {
    const { name, version } = parseKernelIndex(fetched.bytes);
    return name === repository ? { version, index: fetched } : undefined;
  }
  const { config } = parseVariantManifest(fetched.bytes);
  const variant = parseVariant(await registry.getBlob(repository, config.digest, { size: config.size }));
  return variant.package === repository ? { version: variant.version } : undefined;
}

function checkIndex(fetched: FetchedManifest, repository: string, version: string): KernelIndex {
  if (fetched.mediaType !== mediaTypes.index) {
    fail("KL_MIRROR_UPSTREAM", "What the upstream has under this name is no kernel.", {
      remedy: "Mirror it into a namespace of artifacts.",
    });
  }
  const index = parseKernelIndex(fetched.bytes);
  if (index.name !== repository || index.version !== version) {
    fail("KL_MIRROR_UPSTREAM", "The upstream has another package or version under this name.", {
      remedy: "A kernel keeps its whole name, which is signed; check the mirror's pattern and prefix.",
      details: { name: index.name, version: index.version },
    });
  }
  return index;
}

/**
 * Fetches a version whole and publishes it. `published` is false where this registry wants a person's approval first.
 * Throws what the upstream or the judgement refuses with; what was fetched stays for another try until it is collected.
 */
export async function admit(
  kit: Kit,
  subject: Subject,
  fetched: FetchedManifest,
  version: string,
): Promise<{ published: boolean }> {
  const { context } = kit;
  const { repository, owner, mirror } = subject;
  const index = checkIndex(fetched, repository, version);
  const { registry } = kit.upstream(mirror);

  const variants: FetchedManifest[] = [];
  const configs: { key: string; manifest: Digest; variant: Variant; bytes: Uint8Array; descriptor: Descriptor }[] = [];
  const blobs = new Map<Digest, WantedBlob>();
  for (const { variant: key, manifest } of index.variants) {
    const variant = await named(registry.getManifest(repository, manifest.digest));
    if (variant.bytes.byteLength !== manifest.size) {
      fail("KL_MIRROR_UPSTREAM", "A variant's manifest has another size than the index says.", {
        details: { digest: manifest.digest },
      });
    }
    const parsed = parseVariantManifest(variant.bytes);
    for (const { digest, size } of parsed.files) blobs.set(digest, { digest, size });
    const { digest, size } = parsed.config;
    const bytes = await named(registry.getBlob(repository, digest, { size, maxBytes: maxConfigBytes }));
    const config = parseVariant(bytes);
    checkVariantManifest(parsed, config, { name: index.name, version, variant: key });
    configs.push({ key, manifest: variant.digest, variant: config, bytes, descriptor: parsed.config });
    variants.push(variant);
  }
  const bytes = [...blobs.values()].reduce((sum, { size }) => sum + size, 0);
  if (bytes > kit.options.maxVersionBytes) {
    fail("KL_MIRROR_TOO_LARGE", `The version has ${bytes} bytes, more than a mirror takes.`, {
      remedy: "Copy it by hand if you want it.",
      details: { bytes, limit: kit.options.maxVersionBytes },
    });
  }
  // Evidence before files: it is small, and without it nothing else is of use.
  const evidence: Evidence[] = [];
  for (const { digest } of [fetched, ...variants]) evidence.push(...(await fetchEvidence(kit, subject, digest)));
  await foresee(kit, subject, { index, digest: fetched.digest, variants: configs, evidence });

  for (const { bytes: config, descriptor } of configs) await keepBytes(kit, repository, descriptor, once(config));
  const queue = blobs.values();
  const worker = async () => {
    for (const blob of queue) await named(keepBlob(kit, mirror, repository, blob));
  };
  await Promise.all(Array.from({ length: blobsAtATime }, worker));
  for (const variant of variants) await store(kit, subject, variant);
  const row = await store(kit, subject, fetched);
  for (const item of evidence) await attach(kit, subject, item);

  const origin = { origin: mirror.origin, repository: upstreamRepository(mirror, repository) };
  const outcome = await kit.publisher.publish({
    repository,
    namespace: owner.name,
    version,
    index: row,
    tokenId: actorOf(mirror),
    actor: actorOf(mirror),
    ...(owner.review === "required" ? { review: "ask" as const } : {}),
    mirrored: { from: origin, minimumAgeDays: mirror.settings.coolDownDays },
  });
  if (outcome === "published") {
    context.metrics.count("kernlock_mirror_versions_total");
    kit.log.info(
      { mirror: mirror.id, repository, version, digest: row.digest, bytes, ...{ from: origin } },
      "mirrored",
    );
  }
  return { published: outcome !== "staged" };
}

interface Evidence {
  readonly subject: Digest;
  readonly manifest: FetchedManifest;
  readonly bundle: Uint8Array;
  readonly descriptor: Descriptor;
}

/** The bundles that the upstream has about a manifest and this registry has not. */
async function fetchEvidence(kit: Kit, { repository, mirror }: Subject, about: Digest): Promise<Evidence[]> {
  const { registry } = kit.upstream(mirror);
  const here = new Set<string>((await kit.context.records.referrers(repository, about)).map((row) => row.digest));
  const listed = (await referrersOf(kit, repository, mirror, about)).filter(({ digest }) => !here.has(digest));
  const found: Evidence[] = [];
  for (const { digest } of listed) {
    const manifest = await named(registry.getManifest(repository, digest));
    const parsed = ifBundle(() => parseBundleManifest(manifest.bytes));
    // The list is the upstream's word; the manifest says itself what it is about.
    if (parsed === undefined || parsed.subject.digest !== about || parsed.bundle.size > maxBundleBytes) continue;
    const { digest: blob, size } = parsed.bundle;
    const bundle = await named(registry.getBlob(repository, blob, { size, maxBytes: maxBundleBytes }));
    // As of anybody who attaches something here: a statement, and about this.
    if (describeBundle(bundle)?.subjects.includes(about) !== true) continue;
    found.push({ subject: about, manifest, bundle, descriptor: parsed.bundle });
  }
  return found;
}

/** By the referrers route, or by the tag that stands in for it where the registry has none. */
async function referrersOf(
  kit: Kit,
  repository: string,
  mirror: Mirror,
  about: Digest,
): Promise<Pick<Descriptor, "digest">[]> {
  const { registry } = kit.upstream(mirror);
  try {
    return await registry.referrers(repository, about, mediaTypes.bundle, maxBundles);
  } catch (error) {
    if (!isAbsent(error)) throw error;
  }
  try {
    const { bytes } = await registry.getManifest(repository, about.replace(":", "-"));
    const listed = fallbackShape.safeParse(parseStrictJson(bytes, { what: "The list of referrers" }));
    if (!listed.success) return fail("KL_OCI_PROTOCOL", "The upstream's list of referrers is malformed.");
    const bundles = listed.data.manifests.filter(({ artifactType }) => artifactType === mediaTypes.bundle);
    if (bundles.length > maxBundles) fail("KL_OCI_TOO_LARGE", `More than ${maxBundles} bundles are about ${about}.`);
    return bundles;
  } catch (error) {
    if (isAbsent(error)) return [];
    throw error;
  }
}

/** Statements that came to the upstream since: audits, and violations. Returns how many are new. */
export async function refreshEvidence(kit: Kit, subject: Subject, about: Digest): Promise<number> {
  const found = await fetchEvidence(kit, subject, about);
  for (const item of found) await attach(kit, subject, item);
  return found.length;
}

async function attach(kit: Kit, subject: Subject, { manifest, bundle, descriptor }: Evidence): Promise<void> {
  const { repository } = subject;
  await keepBytes(kit, repository, descriptor, once(bundle));
  const { digest, bytes } = emptyConfigBlob;
  if ((await kit.context.records.blob(repository, digest))?.state !== "present") {
    await keepBytes(kit, repository, { digest, size: bytes.byteLength }, once(bytes));
  }
  try {
    await store(kit, subject, manifest);
  } catch (error) {
    if (!(error instanceof KernlockError && noBundle.test(error.code))) throw error;
    kit.log.info({ mirror: subject.mirror.id, repository, digest: manifest.digest, code: error.code }, "no bundle");
  }
}

async function store(kit: Kit, { repository, owner, mirror }: Subject, fetched: FetchedManifest): Promise<ManifestRow> {
  const bytes = Buffer.from(fetched.bytes);
  const { row } = await storeManifest(kit.context, {
    repository,
    owner,
    digest: digestOf(bytes),
    mediaType: fetched.mediaType,
    bytes,
    publishes: true,
    administers: true,
    actor: actorOf(mirror),
  });
  return row;
}

/**
 * One node at a time works on a package. A node that dies lets go of it after a minute. Undefined when `settled` came
 * true meanwhile: then another node did it.
 */
export async function inTurn<T>(
  { context: { records, now }, closing }: Pick<Kit, "context" | "closing">,
  repository: string,
  settled: () => Promise<boolean>,
  work: () => Promise<T>,
): Promise<T | undefined> {
  const name = `mirror:${repository}`;
  const holder = randomBytes(8).toString("hex");
  const hold = () => {
    const time = now();
    return records.takeLease(name, holder, time.toISOString(), new Date(time.getTime() + leaseMs).toISOString());
  };
  while (!(await hold())) {
    await sleep(100, undefined, { signal: closing });
    if (await settled()) return undefined;
  }
  const renew = setInterval(() => void hold().catch(() => {}), leaseMs / 3).unref();
  try {
    return (await settled()) ? undefined : await work();
  } finally {
    clearInterval(renew);
    await records.dropLease(name, holder);
  }
}

function ifBundle<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof KernlockError && noBundle.test(error.code)) return undefined;
    throw error;
  }
}

/** What the upstream names and does not have is no answer of "there is no such version". */
async function named<T>(fetching: Promise<T>): Promise<T> {
  try {
    return await fetching;
  } catch (error) {
    if (!isAbsent(error)) throw error;
    return fail("KL_MIRROR_UPSTREAM", "The upstream does not have all that its version names.", {
      remedy: "Tell whoever runs the upstream; nothing of it was kept.",
      cause: error,
    });
  }
}

export function isAbsent(error: unknown): boolean {
  return error instanceof KernlockError && error.code === "KL_OCI_NOT_FOUND";
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void> {
  yield bytes;
}
