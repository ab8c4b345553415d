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
  auditBases,
  auditType,
  describeBundle,
  type Evidence,
  judge,
  type Policy,
  type Verdict,
} from "@kernlock/policies/trust";
import semver from "semver";
import type { Context } from "../context.ts";
import { coolDown } from "../mirror/cool-down.ts";
import type { ContentDigest } from "../store/digests.ts";
import type { Decision, ManifestRow, ReviewRow } from "../store/records.ts";
import { createGate } from "../store/turns.ts";
import { type BinaryFacts, binaryFacts, renderVersion, type VersionDocument } from "./documents.ts";
import { readOperatorFiles } from "./feeds.ts";
import { kernelFacts } from "./kernel-facts.ts";
import { readJudges } from "./policies.ts";
import { assertPublishable } from "./refusal.ts";
import { maxBundleBytes, maxBundles, requireBlobs } from "./store-manifest.ts";

export interface PublishRequest {
  readonly repository: string;
  readonly namespace: string;
  readonly version: string;
  /** The stored manifest that the tag is put on. */
  readonly index: ManifestRow;
  readonly tokenId: string;
  /** As in the audit log. */
  readonly actor: string;
  /** `ask`: it is staged until somebody else decides. A decision is the approval of what was staged; it is judged again. */
  readonly review?: "ask" | Decision;
  /** Where a mirror has it from, and for how many days it must have existed whatever the policies ask. */
  readonly mirrored?: {
    readonly from: { readonly origin: string; readonly repository: string };
    readonly minimumAgeDays: number;
  };
}

export interface PublishedVariant {
  readonly key: string;
  readonly manifest: Digest;
  readonly manifestSize: number;
  readonly variant: Variant;
  readonly binaries: readonly BinaryFacts[];
}

interface ReadVariant extends PublishedVariant {
  /** Its manifest, and what that names. */
  readonly reached: readonly ContentDigest[];
  /** Bytes of its payloads. */
  readonly inspected: number;
}

interface ReadPackage {
  readonly index: KernelIndex;
  readonly digest: Digest;
  readonly variants: readonly ReadVariant[];
  readonly card: string;
}

export interface Publisher {
  /** "same" when this version stands with these bytes already. Throws what refused it. */
  publish(request: PublishRequest): Promise<"published" | "same" | "staged">;
}

const sharedObjectExports = ["kl_get_api"];
const allowedLibraries = ["libc.so.6", "libm.so.6"];
const maxPayloadBytes = 1 << 30;
/** Of the whole version, all variants together. */
const maxInspectedBytes = 4 * 2 ** 30;
const maxConfigBytes = 1 << 20;
const maxCardBytes = 1 << 20;
/** Manifests of this and of earlier versions on which bundles are looked for. */
const maxSubjects = 512;
const maxJudgedAtOnce = 8;
/** How often a publish is judged anew because its policy or evidence changed meanwhile. */
const maxJudgements = 5;

export function createPublisher(context: Context): Publisher {
  const { records } = context;
  // Each holds its package in memory.
  const judging = createGate(maxJudgedAtOnce);
  return {
    async publish(request) {
      const { repository, version, index: row } = request;
      const settled = await settle(request);
      if (settled !== undefined) return settled;

      const index = readIndex(request);
      let read: ReadPackage | undefined;
      for (let judgement = 1; judgement <= maxJudgements; judgement++) {
        // Whoever waits for the disk afterwards holds no package any more.
        const judged = await judging(async () => {
          read ??= await readPackage(request, index);
          return judgePackage(request, read);
        });
        const { stamp, judges, subjects, bundles, verdict, rendered, publishedAt, content } = judged;
        // The namespace may have begun to ask for reviews since the request came.
        const asks = request.review === "ask" || (request.review === undefined && judges.review === "required");
        if (asks) return stage(request, rendered, content, publishedAt);
        const outcome = await records.commitVersion(
          {
            version: {
              repository,
              version,
              digest: row.digest,
              publishedAt,
              tokenId: request.tokenId,
              verdict: JSON.stringify(verdict.tree),
              document: JSON.stringify(rendered.document),
              card: rendered.card,
            },
            content,
            kernel: rendered.kernel,
            ...(request.review === undefined ? {} : { approval: request.review }),
            judged: {
              ...{ namespace: request.namespace, stamp, subjects, bundles },
              ...(request.actor === `token:${request.tokenId}` ? { token: request.tokenId } : {}),
            },
          },
          {
            at: publishedAt,
            actor: request.actor,
            action: request.review === undefined ? "version.publish" : "version.approve",
            subject: `${repository}@${version}`,
            details: {
              digest: row.digest,
              signers: rendered.document.signers,
              ...(request.mirrored === undefined ? {} : { mirrored_from: request.mirrored.from }),
              ...(verdict.mode === "enforce" ? {} : { mode: verdict.mode }),
              ...(verdict.waivers.length === 0 ? {} : { waivers: verdict.waivers }),
              ...(rendered.document.trust_changes === undefined
                ? {}
                : { trust_changes: rendered.document.trust_changes }),
            },
          },
        );
        if (outcome === "changed") continue;
        if (outcome === "revoked") {
          fail("KL_REGISTRY_TOKEN_UNKNOWN", "The token was revoked while the version was judged.", {
            remedy: "Ask the registry's operator for a new one (`kernlock registry token`).",
          });
        }
        if (outcome === "committed") context.metrics.count("kernlock_publishes_total");
        // Somebody else was faster: their row decides.
        return outcome === "committed" ? "published" : ((await settle(request)) ?? "same");
      }
      return fail("KL_REGISTRY_UNSETTLED", "What this version is judged by keeps changing.", {
        remedy: "Try again when no more evidence is being attached to it.",
      });
    },
  };

  async function readPackage(request: PublishRequest, index: KernelIndex): Promise<ReadPackage> {
    const variants: ReadVariant[] = [];
    for (const entry of index.variants) variants.push(await readVariant(request, index, entry, variants));
    return { index, digest: digestOf(request.index.bytes), variants, card: await readCard(variants) };
  }

  async function judgePackage(request: PublishRequest, { index, digest, variants, card }: ReadPackage) {
    const { repository, version, index: row } = request;
    await readOperatorFiles(context);
    const { stamp, ...judges } = await readJudges(context, request.namespace);
    const policy = coolDown(judges.policy, request.mirrored?.minimumAgeDays ?? 0);
    const subjects = [digest, ...variants.map((v) => v.manifest)];
    const own = await readEvidence(repository, subjects);
    const evidence = [...own.evidence, ...(await readBases(repository, subjects, own.evidence, policy))];
    const verdict = decide(policy, index, digest, variants, evidence);
    const publishedAt = context.now().toISOString();
    const before = await lowerVersion(repository, version);
    const rendered = renderVersion({ request, index, variants, verdict, publishedAt, card, before });
    const content = [...new Set([row.digest, ...variants.flatMap((v) => v.reached), ...own.reached])];
    return { stamp, judges, subjects, bundles: own.referrers, verdict, rendered, publishedAt, content };
  }

  async function stage(
    request: PublishRequest,
    { document, card }: ReturnType<typeof renderVersion>,
    content: readonly ContentDigest[],
    at: string,
  ): Promise<"staged" | "same"> {
    const { repository, version, index, actor } = request;
    const { digest } = index;
    const row = { repository, version, digest, askedAt: at, askedBy: actor, document: JSON.stringify(document), card };
    const audit = {
      at,
      actor,
      action: "version.stage",
      subject: `${repository}@${version}`,
      details: { digest, signers: document.signers },
    };
    const staged = await records.stageVersion(row, content, audit);
    return staged ? "staged" : ((await settle(request)) ?? "same");
  }

  async function settle({
    repository,
    version,
    index,
    review,
  }: PublishRequest): Promise<"same" | "staged" | undefined> {
    const existing = await records.version(repository, version);
    if (existing === undefined) {
      const waiting = await records.review(repository, version);
      const approves = review !== undefined && review !== "ask";
      if (waiting === undefined || waiting.state === "approved" || approves) return undefined;
      if (waiting.state === "rejected") return rejectedBefore(waiting);
      if (waiting.digest === index.digest) return "staged";
      return fail("KL_REGISTRY_VERSION_EXISTS", `${repository} ${version} waits for its review, with other bytes.`, {
        remedy: "Have it rejected, and publish a new version.",
        details: { repository, version, digest: waiting.digest },
      });
    }
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

  async function readVariant(
    request: PublishRequest,
    index: KernelIndex,
    entry: KernelIndex["variants"][number],
    earlier: readonly ReadVariant[],
  ): Promise<ReadVariant> {
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
    const variant = parseVariant(await readChecked(manifest.config, maxConfigBytes));
    checkVariantManifest(manifest, variant, { name: index.name, version: index.version, variant: entry.variant });
    const binaries: BinaryFacts[] = [];
    let inspected = earlier.reduce((sum, { inspected: bytes }) => sum + bytes, 0);
    const before = inspected;
    for (const file of payloadFiles(variant)) {
      if (file.size > maxPayloadBytes) {
        fail("KL_REGISTRY_BLOB_TOO_LARGE", `The payload "${file.path}" is too large to be inspected.`, {
          remedy: "Split the package.",
          details: { path: file.path, limit: maxPayloadBytes },
        });
      }
      inspected += file.size;
      if (inspected > maxInspectedBytes) {
        fail("KL_REGISTRY_BLOB_TOO_LARGE", "The payloads of this version are too large together to be inspected.", {
          remedy: "Publish fewer variants at once.",
          details: { limit: maxInspectedBytes },
        });
      }
      const bytes = await readChecked(file, maxPayloadBytes);
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
      variant,
      binaries,
      reached: [entry.manifest.digest, manifest.config.digest, ...variant.files.map((file) => file.digest)],
      inspected: inspected - before,
    };
  }

  /** The bundles attached to the index and its variants, in a fixed order. */
  async function readEvidence(
    repository: string,
    subjects: readonly Digest[],
  ): Promise<{ evidence: Evidence[]; referrers: ContentDigest[]; reached: ContentDigest[] }> {
    const evidence: Evidence[] = [];
    const referrers: ContentDigest[] = [];
    const reached: ContentDigest[] = [];
    for (const subject of subjects) {
      for (const row of await records.bundlesOn(repository, subject, maxBundles + 1)) {
        const { bundle } = parseBundleManifest(row.bytes);
        evidence.push({ subject, bundle: await readChecked(bundle, maxBundleBytes) });
        referrers.push(row.digest);
        // Also the config of every bundle's manifest.
        reached.push(row.digest, bundle.digest, emptyConfigBlob.digest);
      }
      if (evidence.filter((item) => item.subject === subject).length > maxBundles) {
        fail("KL_REGISTRY_BUNDLES_FULL", `More than ${maxBundles} bundles are attached to one manifest.`, {
          remedy: "Attach one bundle a statement, and every statement once.",
          details: { subject, limit: maxBundles },
        });
      }
    }
    return { evidence, referrers, reached };
  }

  /** What is attached to the earlier versions to which delta audits lead, as far as those are published here. */
  async function readBases(
    repository: string,
    subjects: readonly Digest[],
    own: readonly Evidence[],
    policy: Policy,
  ): Promise<Evidence[]> {
    const asked = new Set<Digest>(subjects);
    const bases: Evidence[] = [];
    const audits = own.filter(mayAudit);
    for (;;) {
      const wanted = auditBases({ policy, evidence: audits, now: context.now() }).filter(
        (digest) => !asked.has(digest),
      );
      if (wanted.length === 0) return bases;
      if (asked.size + wanted.length > maxSubjects) {
        fail("KL_REGISTRY_BUNDLES_FULL", `The delta audits lead to more than ${maxSubjects} manifests.`, {
          remedy: "Audit the whole again.",
          details: { limit: maxSubjects },
        });
      }
      for (const digest of wanted) {
        asked.add(digest);
        if ((await records.manifest(repository, digest))?.visible !== 1) continue;
        for (const row of await records.bundlesOn(repository, digest, maxBundles)) {
          if (row.visible !== 1) continue;
          const { bundle } = parseBundleManifest(row.bytes);
          const item = { subject: digest, bundle: await readChecked(bundle, maxBundleBytes) };
          bases.push(item);
          if (mayAudit(item)) audits.push(item);
        }
      }
    }
  }

  function decide(
    policy: Policy,
    index: KernelIndex,
    digest: Digest,
    variants: readonly PublishedVariant[],
    evidence: readonly Evidence[],
  ): Verdict {
    const kernel = kernelFacts(index, digest, variants);
    const verdict = judge({ policy, kernel, evidence, now: context.now() });
    assertPublishable(verdict, kernel);
    return verdict;
  }

  /** The next lower version, as the pages compare them. */
  async function lowerVersion(repository: string, version: string): Promise<VersionDocument | undefined> {
    const own = new semver.SemVer(version);
    let lower: semver.SemVer | undefined;
    for (const text of await records.versionTags(repository, "", Number.MAX_SAFE_INTEGER)) {
      const one = new semver.SemVer(text);
      if (one.compare(own) < 0 && (lower === undefined || one.compare(lower) > 0)) lower = one;
    }
    const row = lower === undefined ? undefined : await records.version(repository, lower.version);
    return row === undefined ? undefined : (JSON.parse(row.document) as VersionDocument);
  }

  async function readCard(variants: readonly PublishedVariant[]): Promise<string> {
    for (const { variant } of variants) {
      const file = variant.files.find((f) => f.kind === "card");
      if (file !== undefined && file.size <= maxCardBytes) {
        return (await readChecked(file, maxCardBytes)).toString("utf8");
      }
    }
    return "";
  }

  /** A blob's bytes, hashed again: the judgement must be about what will be served. Its size was checked when it was named. */
  async function readChecked({ digest, size }: { digest: Digest; size: number }, most: number): Promise<Buffer> {
    if (size > most) {
      fail("KL_REGISTRY_BLOB_TOO_LARGE", `The blob ${digest} has more than the ${most} bytes that it may have here.`, {
        remedy: "Publish smaller documents; docs/registry-api.md says how large each may be.",
        details: { digest, limit: most },
      });
    }
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

/** Nothing else leads to other manifests, and to look at every signature for that would cost as much as to judge by it. */
const mayAudit = ({ bundle }: Evidence) => (describeBundle(bundle)?.predicateType ?? auditType) === auditType;

/** Whoever looked at a version and said no must not find other bytes under its name later. */
function rejectedBefore({ repository, version, reason }: ReviewRow): never {
  return fail("KL_REGISTRY_VERSION_REJECTED", `${repository} ${version} was reviewed and rejected.`, {
    remedy: "Publish a new version.",
    details: { repository, version, reason },
  });
}
