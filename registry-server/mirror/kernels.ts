/**
 * A version of a kernel, from an upstream into this registry: everything that it names is fetched first, then it is
 * published here as anybody's would be, by the same code, under the policies of this registry. Until then nothing of it
 * is visible.
 */
import { type Digest, fail, mediaTypes, parseVariant, type Variant } from "@kernlock/kernels/format";
import {
  checkVariantManifest,
  type Descriptor,
  type FetchedManifest,
  type KernelIndex,
  parseKernelIndex,
  parseVariantManifest,
} from "@kernlock/kernels/oci";
import { attach, fetchEvidence, type Statement } from "./evidence.ts";
import { named, once, type Subject, store } from "./fetched.ts";
import { foresee } from "./foresee.ts";
import { keepBlob, keepBytes, type WantedBlob } from "./keep.ts";
import type { Kit } from "./kit.ts";
import { actorOf, upstreamRepository } from "./mirrors.ts";

const maxConfigBytes = 1 << 20;
const blobsAtATime = 4;

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
  const evidence: Statement[] = [];
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
