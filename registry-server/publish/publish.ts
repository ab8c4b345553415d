/**
 * Publishing: a tag is put on an index that is already here. This is the commit point. Nothing of a version is visible
 * before it; all of it is from the moment the row commits; and the row commits only when the package is whole, its
 * machine code passes inspection, and the evidence attached to it satisfies the policies that stand over it.
 */
import {
  type Digest,
  digestOf,
  fail,
  mediaTypes,
  parseVariant,
  payloadFiles,
  type Variant,
} from "@kernlock/kernels/format";
import { checkDeviceCode, checkSharedObject, inspectElf } from "@kernlock/kernels/inspect";
import {
  checkVariantManifest,
  emptyConfigBlob,
  type KernelIndex,
  parseBundleManifest,
  parseKernelIndex,
  parseVariantManifest,
} from "@kernlock/kernels/oci";
import {
  assertAllowed,
  contentsOf,
  type Evidence,
  judge,
  type KernelFacts,
  type Policy,
  parsePolicy,
  type Verdict,
} from "@kernlock/policies/trust";
import type { Context } from "../context.ts";
import type { ContentDigest } from "../store/digests.ts";
import type { ManifestRow } from "../store/records.ts";
import { type BinaryFacts, binaryFacts, renderVersion } from "./documents.ts";
import { requireBlobs } from "./store-manifest.ts";

export interface PublishRequest {
  readonly repository: string;
  readonly namespace: string;
  readonly version: string;
  /** The stored manifest that the tag is put on. */
  readonly index: ManifestRow;
  readonly tokenId: string;
  /** As in the audit log. */
  readonly actor: string;
}

export interface PublishedVariant {
  readonly key: string;
  readonly manifest: Digest;
  readonly manifestSize: number;
  readonly variant: Variant;
  readonly binaries: readonly BinaryFacts[];
}

export interface Publisher {
  /** "same" when this version stands with these bytes already. Throws what refused it. */
  publish(request: PublishRequest): Promise<"published" | "same">;
}

const sharedObjectExports = ["kl_get_api"];
const allowedLibraries = ["libc.so.6", "libm.so.6"];
const maxBundleBytes = 4 << 20;
const maxBundles = 200;
const maxPayloadBytes = 1 << 30;

export function createPublisher(context: Context): Publisher {
  const { records } = context;
  return {
    async publish(request) {
      const { repository, version, index: row } = request;
      const settled = await settle(request);
      if (settled !== undefined) return settled;

      const index = readIndex(request);
      const digest = digestOf(row.bytes);
      const variants = [];
      const reached = new Set<ContentDigest>([row.digest]);
      for (const entry of index.variants) {
        const variant = await readVariant(request, index, entry);
        variants.push(variant);
        reached.add(variant.manifest);
        reached.add(variant.config);
        for (const file of variant.variant.files) reached.add(file.digest);
      }
      const evidence = await readEvidence(repository, [digest, ...variants.map((v) => v.manifest)], reached);
      const verdict = await decide(request, index, digest, variants, evidence);

      const publishedAt = context.now().toISOString();
      const card = await readCard(variants);
      const rendered = renderVersion({ request, index, variants, verdict, publishedAt, card });
      const committed = await records.commitVersion(
        {
          version: {
            repository,
            version,
            digest: row.digest,
            publishedAt,
            tokenId: request.tokenId,
            verdict: JSON.stringify(verdict.tree),
            document: rendered.document,
            card: rendered.card,
          },
          content: [...reached],
          kernel: rendered.kernel,
        },
        {
          at: publishedAt,
          actor: request.actor,
          action: "version.publish",
          subject: `${repository}@${version}`,
          details: { digest: row.digest, signers: [...new Set(verdict.accepted.map((s) => s.signer))].sort() },
        },
      );
      if (committed) context.metrics.count("kernlock_publishes_total");
      // Somebody else was faster: their row decides.
      return committed ? "published" : ((await settle(request)) ?? "same");
    },
  };

  async function settle({ repository, version, index }: PublishRequest): Promise<"same" | undefined> {
    const existing = await records.version(repository, version);
    if (existing === undefined) return undefined;
    if (existing.digest === index.digest) return "same";
    return fail("KL_REGISTRY_VERSION_EXISTS", `${repository} ${version} is published, with other bytes.`, {
      remedy: "Versions never change; publish a new one.",
      details: { repository, version, digest: existing.digest },
    });
  }

  function readIndex({ repository, version, index: row }: PublishRequest): KernelIndex {
    if (row.mediaType !== mediaTypes.index) {
      fail("KL_REGISTRY_MANIFEST_INVALID", "A version is an image index of kernel variants, not a single manifest.", {
        remedy: "Put the version's tag on the package's index.",
      });
    }
    const index = parseKernelIndex(row.bytes);
    if (index.name !== repository) {
      fail("KL_REGISTRY_MANIFEST_INVALID", "The index names another package than the repository.", {
        remedy: "Push it to the repository of its own name.",
        details: { name: index.name, repository },
      });
    }
    if (index.version !== version) {
      fail("KL_REGISTRY_VERSION_INVALID", "The tag is not the version that the index names.", {
        remedy: "Tag the index with its own version.",
        details: { tag: version, version: index.version },
      });
    }
    return index;
  }

  async function readVariant(request: PublishRequest, index: KernelIndex, entry: KernelIndex["variants"][number]) {
    const { repository } = request;
    const row = await records.manifest(repository, entry.manifest.digest);
    if (row?.bytes.byteLength !== entry.manifest.size || row.mediaType !== mediaTypes.manifest) {
      return fail("KL_REGISTRY_MANIFEST_INCOMPLETE", `The manifest of variant ${entry.variant} is not here as named.`, {
        remedy: "Push the variants' manifests before the version's tag.",
        details: { variant: entry.variant, digest: entry.manifest.digest },
      });
    }
    const manifest = parseVariantManifest(row.bytes);
    await requireBlobs(context, repository, [manifest.config, ...manifest.files]);
    const variant = parseVariant(await readChecked(manifest.config.digest));
    checkVariantManifest(manifest, variant, { name: index.name, version: index.version, variant: entry.variant });
    const binaries: BinaryFacts[] = [];
    for (const file of payloadFiles(variant)) {
      if (file.size > maxPayloadBytes) {
        fail("KL_REGISTRY_BLOB_TOO_LARGE", `The payload "${file.path}" is too large to be inspected.`, {
          remedy: "Split the package.",
          details: { path: file.path, limit: maxPayloadBytes },
        });
      }
      const bytes = await readChecked(file.digest);
      const elf = file.kind === "shared-object" ? inspectElf(bytes) : undefined;
      if (elf !== undefined) {
        checkSharedObject(elf, {
          allowedLibraries,
          libcMaximum: variant.platform.libc.minimum,
          exports: sharedObjectExports,
        });
      }
      checkDeviceCode(bytes, file, variant);
      binaries.push(binaryFacts(file.path, elf, variant));
    }
    return {
      key: entry.variant,
      manifest: entry.manifest.digest,
      manifestSize: row.bytes.byteLength,
      config: manifest.config.digest,
      variant,
      binaries,
    };
  }

  /** The bundles attached to the index and its variants, in a fixed order. */
  async function readEvidence(
    repository: string,
    subjects: readonly Digest[],
    reached: Set<ContentDigest>,
  ): Promise<Evidence[]> {
    const evidence: Evidence[] = [];
    for (const subject of subjects) {
      for (const row of await records.referrers(repository, subject)) {
        if (row.artifactType !== mediaTypes.bundle) continue;
        if (evidence.length >= maxBundles) {
          fail("KL_REGISTRY_MANIFEST_INVALID", `More than ${maxBundles} bundles are attached to this version.`, {
            remedy: "Attach one bundle a statement.",
          });
        }
        const { bundle } = parseBundleManifest(row.bytes);
        if (bundle.size > maxBundleBytes) {
          fail("KL_REGISTRY_BLOB_TOO_LARGE", `A bundle may have ${maxBundleBytes} bytes at most.`, {
            remedy: "Attach one statement a bundle.",
          });
        }
        evidence.push({ subject, bundle: await readChecked(bundle.digest) });
        reached.add(row.digest);
        reached.add(bundle.digest);
        // The config of every bundle's manifest.
        reached.add(emptyConfigBlob.digest);
      }
    }
    return evidence;
  }

  async function decide(
    request: PublishRequest,
    index: KernelIndex,
    digest: Digest,
    variants: readonly PublishedVariant[],
    evidence: readonly Evidence[],
  ): Promise<Verdict> {
    const kernel: KernelFacts = {
      name: index.name,
      version: index.version,
      index: digest,
      source: { repository: index.source, revision: index.revision },
      license: index.licenses,
      variants: variants.map(({ key, manifest, variant }) => ({ key, manifest, contents: contentsOf(variant) })),
    };
    const own = parsePolicy((await records.namespace(request.namespace))!.policy);
    const policies: Policy[] = context.policy === undefined ? [own] : [context.policy, own];
    let verdict: Verdict | undefined;
    for (const policy of policies) {
      verdict = judge({ policy, kernel, evidence, now: context.now() });
      assertAllowed(verdict, kernel);
    }
    return verdict!;
  }

  async function readCard(variants: readonly PublishedVariant[]): Promise<string> {
    for (const { variant } of variants) {
      const file = variant.files.find((f) => f.kind === "card");
      if (file !== undefined && file.size <= 1 << 20) return (await readChecked(file.digest)).toString("utf8");
    }
    return "";
  }

  /** A blob's bytes, hashed again: the judgement must be about what will be served. */
  async function readChecked(digest: Digest): Promise<Buffer> {
    const bytes = await context.blobs.readAll(digest);
    if (digestOf(bytes) !== digest) {
      fail("KL_REGISTRY_INTERNAL", `The stored bytes of ${digest} are damaged.`, {
        remedy: "Ask the registry's operator to check its disk.",
        details: { digest },
      });
    }
    return bytes;
  }
}
